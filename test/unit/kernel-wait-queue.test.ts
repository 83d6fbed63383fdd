import { expect, test } from 'vitest'
import { Waiter, WaitQueue } from '../../sentry/kernel/wait-queue.ts'

class Recorder {
  readonly waiter = new Waiter(this)
  events: number[] = []
  also: () => void = () => {}
  notify(_waiter: Waiter, events: number): void {
    this.events.push(events)
    this.also()
  }
}
function queueOf(n: number): [WaitQueue, Recorder[]] {
  const queue = new WaitQueue()
  const all = Array.from({ length: n }, () => new Recorder())
  for (const r of all) queue.add(r.waiter, 1)
  return [queue, all]
}

test('a wake reaches those that are interested, once, and errors reach all', () => {
  const [queue, all] = queueOf(3)
  all[1]!.waiter.mask = 4
  queue.wake(1)
  expect(all.map((r) => r.events.length)).toEqual([1, 0, 1])
  queue.add(new Recorder().waiter, 2)
  queue.wake(8)
  expect(all.map((r) => r.events.length)).toEqual([2, 0, 2])
})

test('a notification may take any waiters off the queue; nobody else is forgotten', () => {
  const [queue, all] = queueOf(5)
  all[0]!.also = () => {
    all[1]!.waiter.remove()
    all[2]!.waiter.remove()
    all[0]!.waiter.remove()
  }
  queue.wake(1)
  expect(all.map((r) => r.events.length)).toEqual([1, 0, 0, 1, 1])
})

test('those that join during a wake wait for the next one', () => {
  const [queue, all] = queueOf(2)
  const late = new Recorder()
  all[0]!.also = () => {
    if (late.waiter.queue === null) queue.add(late.waiter, 1)
  }
  queue.wake(1)
  expect(late.events).toEqual([])
  queue.wake(1)
  expect(late.events).toEqual([1])
})

test('wakeOne takes turns', () => {
  const [queue, all] = queueOf(2)
  queue.wakeOne(1)
  queue.wakeOne(1)
  queue.wakeOne(1)
  expect(all.map((r) => r.events.length)).toEqual([1, 1])
  expect(queue.empty).toBe(true)
})
