// An HTTP server and client, worker threads, child processes, file watching, compression: Node on the kernel.
import { exec, execFileSync, fork, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, watch, writeFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, get } from 'node:http'
import { createConnection, createServer as createTcp } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { gunzipSync, gzipSync } from 'node:zlib'

const self = fileURLToPath(import.meta.url)
const hash = (data) => createHash('sha256').update(data).digest('hex').slice(0, 12)

async function main() {
  const server = createServer((request, response) => {
    const chunks = []
    request.on('data', (c) => chunks.push(c))
    request.on('end', () => response.end(`${request.method} ${request.url} ${Buffer.concat(chunks).length}`))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  const bodies = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const [response] = await once(get(`http://127.0.0.1:${port}/path/${i}`), 'response')
      let text = ''
      for await (const chunk of response) text += chunk
      return text
    }),
  )
  console.log('http', hash(bodies.join('\n')), bodies[3])
  const posted = await fetch(`http://127.0.0.1:${port}/post`, { method: 'POST', body: 'x'.repeat(300000) })
  console.log('fetch', posted.status, await posted.text())
  server.close()
  server.closeAllConnections()

  const unix = createTcp((socket) => pipeline(socket, socket).catch(() => {})).listen('echo.sock')
  await once(unix, 'listening')
  const socket = createConnection('echo.sock')
  socket.end('over a unix socket')
  let echoed = ''
  for await (const chunk of socket) echoed += chunk
  console.log('unix', echoed)
  unix.close()

  const sums = await Promise.all(
    [1, 2, 3, 4].map(async (n) => {
      const worker = new Worker(self, { workerData: { n } })
      const [value] = await once(worker, 'message')
      await worker.terminate()
      return value
    }),
  )
  console.log('workers', sums)

  console.log('exec', (await promisify(exec)('echo $((40 + 2)); seq 5 | tail -1')).stdout)
  console.log('execFile', execFileSync('sort', { input: 'b\na\nc\n' }).toString())
  const failed = spawn('sh', ['-c', 'exit 9'])
  console.log('exit', (await once(failed, 'exit'))[0])
  const killed = spawn('sleep', ['100'])
  killed.kill('SIGTERM')
  console.log('kill', (await once(killed, 'exit'))[1])
  const child = fork(self, ['child'])
  child.send({ ask: 21 })
  console.log('fork', (await once(child, 'message'))[0], (await once(child, 'exit'))[0])

  mkdirSync('dir')
  await Promise.all(Array.from({ length: 100 }, (_, i) => writeFile(`dir/${i}`, 'data'.repeat(i))))
  console.log('files', readdirSync('dir').length, hash((await readFile('dir/99')).toString()))
  const watcher = watch('dir')
  const change = once(watcher, 'change')
  writeFileSync('dir/new', 'x')
  console.log('watch', (await change)[1])
  watcher.close()
  const big = Buffer.alloc(1 << 20, 'abc')
  console.log('zlib', gunzipSync(gzipSync(big)).equals(big))
  console.log('cpuinfo', /processor/.test(readFileSync('/proc/cpuinfo', 'utf8')), process.memoryUsage().rss > 0)
  const start = process.hrtime.bigint()
  await new Promise((resolve) => setTimeout(resolve, 50))
  console.log('timer', Number(process.hrtime.bigint() - start) >= 49e6)
}

if (!isMainThread) {
  let sum = 0
  for (let i = 0; i < 1e6; i++) sum += i % workerData.n
  parentPort.postMessage(sum)
} else if (process.argv[2] === 'child') {
  process.once('message', ({ ask }) => process.send({ answer: ask * 2 }, () => process.exit(5)))
} else {
  await main()
}
