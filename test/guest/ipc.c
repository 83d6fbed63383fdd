/* System V shared memory, semaphores and messages; POSIX message queues. */
#include "guest.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

TEST(shared_memory) {
  int id = shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600);
  CHECK(id >= 0);
  char *p = shmat(id, NULL, 0);
  CHECK(p != (void *)-1);
  CHECK_EQ(p[0], 0);
  CHECK_EQ(IN_CHILD({
    p[0] = 'c'; /* attachments are inherited */
    char *q = shmat(id, NULL, SHM_RDONLY);
    CHECK_EQ(q[0], 'c');
    CHECK_OK(shmdt(q));
  }), 0);
  CHECK_EQ(p[0], 'c');
  struct shmid_ds ds;
  CHECK_OK(shmctl(id, IPC_STAT, &ds));
  CHECK_EQ(ds.shm_segsz, 8192);
  CHECK_EQ(ds.shm_nattch, 1);
  CHECK_EQ(ds.shm_perm.mode & 0777, 0600);
  CHECK_EQ(ds.shm_cpid, getpid());
  char *again = shmat(id, NULL, 0);
  again[1] = 'x';
  CHECK_EQ(p[1], 'x');
  CHECK_OK(shmctl(id, IPC_RMID, NULL)); /* lives until the last detach */
  CHECK_EQ(p[1], 'x');
  CHECK_OK(shmctl(id, IPC_STAT, &ds));
  CHECK_EQ(ds.shm_perm.mode & SHM_DEST, SHM_DEST);
  CHECK_OK(shmdt(again));
  CHECK_ERR(shmdt(again), EINVAL);
  CHECK_OK(shmdt(p));
  CHECK_ERR(shmctl(id, IPC_STAT, &ds), EINVAL);
  CHECK_ERR((long)shmat(id, NULL, 0), EINVAL);
}

TEST(shared_memory_errors) {
  key_t key = 0x67000000 | (getpid() & 0xffff);
  int id = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600);
  CHECK(id >= 0);
  CHECK_ERR(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  CHECK_EQ(shmget(key, 100, 0600), id);
  CHECK_ERR(shmget(key, 8192, 0600), EINVAL);
  CHECK_ERR(shmget(key + 0x10000, 4096, 0600), ENOENT);
  CHECK_ERR(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  CHECK_ERR((long)shmat(id, (void *)0x1001, 0), EINVAL);
  CHECK_EQ(IN_CHILD({
    REQUIRE(setuid(1000) == 0);
    CHECK_ERR((long)shmat(id, NULL, 0), EACCES);
    CHECK_ERR(shmctl(id, IPC_RMID, NULL), EPERM);
  }), 0);
  CHECK_OK(shmctl(id, IPC_RMID, NULL));
}

union semun { int val; struct semid_ds *buf; unsigned short *array; };
TEST(semaphores) {
  int id = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
  CHECK(id >= 0);
  unsigned short values[3] = {1, 2, 3};
  CHECK_OK(semctl(id, 0, SETALL, (union semun){.array = values}));
  CHECK_EQ(semctl(id, 1, GETVAL), 2);
  struct sembuf take = {0, -1, IPC_NOWAIT}, both[2] = {{1, -2, IPC_NOWAIT}, {0, -1, IPC_NOWAIT}};
  CHECK_OK(semop(id, &take, 1));
  CHECK_ERR(semop(id, &take, 1), EAGAIN);
  CHECK_ERR(semop(id, both, 2), EAGAIN); /* all or nothing */
  CHECK_EQ(semctl(id, 1, GETVAL), 2);
  CHECK_EQ(semctl(id, 0, GETPID), getpid());
  pid_t pid = fork();
  if (pid == 0) {
    struct sembuf wait_one = {0, -1, 0};
    _exit(semop(id, &wait_one, 1) == 0 ? 0 : 1);
  }
  while (semctl(id, 0, GETNCNT) == 0) sleep_ms(2);
  struct sembuf give = {0, 1, 0};
  CHECK_OK(semop(id, &give, 1));
  CHECK_EQ(reap(pid), 0);
  if ((pid = fork()) == 0) {
    struct sembuf wait_zero = {1, 0, 0};
    _exit(semop(id, &wait_zero, 1) == 0 ? 0 : 1);
  }
  while (semctl(id, 1, GETZCNT) == 0) sleep_ms(2);
  CHECK_OK(semctl(id, 1, SETVAL, (union semun){.val = 0}));
  CHECK_EQ(reap(pid), 0);
  struct sembuf timed = {0, -1, 0};
  CHECK_ERR(semtimedop(id, &timed, 1, &(struct timespec){0, 20000000}), EAGAIN);
  CHECK_ERR(semop(id, &(struct sembuf){9, 1, 0}, 1), EFBIG);
  CHECK_ERR(semop(id, &give, 0), EINVAL);
  CHECK_ERR(semctl(id, 0, SETVAL, (union semun){.val = 40000}), ERANGE);
  CHECK_ERR(semop(id, &(struct sembuf){2, 32767, 0}, 1), ERANGE);
  if ((pid = fork()) == 0) _exit(semop(id, &timed, 1) == -1 && errno == EIDRM ? 0 : 1);
  while (semctl(id, 0, GETNCNT) == 0) sleep_ms(2);
  CHECK_OK(semctl(id, 0, IPC_RMID));
  CHECK_EQ(reap(pid), 0);
  CHECK_ERR(semop(id, &give, 1), EINVAL);
  CHECK_ERR(semget(IPC_PRIVATE, -1, 0600), EINVAL);
}

TEST(semaphore_undo) {
  int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  CHECK_OK(semctl(id, 0, SETVAL, (union semun){.val = 5}));
  CHECK_EQ(IN_CHILD({
    CHECK_OK(semop(id, &(struct sembuf){0, -3, SEM_UNDO}, 1));
    CHECK_OK(semop(id, &(struct sembuf){0, 1, SEM_UNDO}, 1));
    CHECK_EQ(semctl(id, 0, GETVAL), 3);
  }), 0);
  CHECK_EQ(semctl(id, 0, GETVAL), 5);
  CHECK_EQ(IN_CHILD(semop(id, &(struct sembuf){0, -3, SEM_UNDO}, 1); raise(SIGKILL)), 128 + SIGKILL);
  CHECK_EQ(semctl(id, 0, GETVAL), 5);
  CHECK_OK(semctl(id, 0, IPC_RMID));
}

struct message { long type; char text[32]; };
TEST(messages) {
  int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  struct message m = {5, "five"}, got;
  CHECK_OK(msgsnd(id, &m, 5, 0));
  m = (struct message){3, "three"};
  CHECK_OK(msgsnd(id, &m, 6, 0));
  m = (struct message){5, "again"};
  CHECK_OK(msgsnd(id, &m, 6, 0));
  struct msqid_ds ds;
  CHECK_OK(msgctl(id, IPC_STAT, &ds));
  CHECK_EQ(ds.msg_qnum, 3);
  CHECK_EQ(msgrcv(id, &got, 32, -4, 0), 6); /* the lowest type up to 4 */
  CHECK_STR(got.text, "three");
  CHECK_ERR(msgrcv(id, &got, 2, 5, 0), E2BIG);
  CHECK_EQ(msgrcv(id, &got, 2, 5, MSG_NOERROR), 2);
  CHECK_EQ(msgrcv(id, &got, 32, 5, MSG_EXCEPT | IPC_NOWAIT) == -1 && errno == ENOMSG, 1);
  CHECK_EQ(msgrcv(id, &got, 32, 0, 0), 6);
  CHECK_STR(got.text, "again");
  CHECK_ERR(msgrcv(id, &got, 32, 0, IPC_NOWAIT), ENOMSG);
  m.type = 0;
  CHECK_ERR(msgsnd(id, &m, 5, 0), EINVAL);
  m.type = 1;
  CHECK_ERR(msgsnd(id, &m, 100000, 0), EINVAL);
  pid_t pid = fork();
  if (pid == 0) _exit(msgrcv(id, &got, 32, 9, 0) == 3 ? 0 : 1);
  sleep_ms(20);
  m = (struct message){8, "x"};
  CHECK_OK(msgsnd(id, &m, 2, 0));
  m.type = 9;
  CHECK_OK(msgsnd(id, &m, 3, 0));
  CHECK_EQ(reap(pid), 0);
  if ((pid = fork()) == 0) _exit(msgrcv(id, &got, 32, 99, 0) == -1 && errno == EIDRM ? 0 : 1);
  sleep_ms(20);
  CHECK_OK(msgctl(id, IPC_RMID, NULL));
  CHECK_EQ(reap(pid), 0);
  int full = msgget(IPC_PRIVATE, IPC_CREAT | 0600), n = 0;
  static struct { long type; char text[4096]; } big = {.type = 1};
  while (msgsnd(full, &big, 4096, IPC_NOWAIT) == 0) n++;
  CHECK_EQ(errno, EAGAIN);
  CHECK_EQ(n, 4);
  msgctl(full, IPC_RMID, NULL);
}

TEST(posix_queues) {
  struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 64}, now;
  char name[64], buf[64] = {0};
  sprintf(name, "/guest-mq-%d", getpid());
  mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
  CHECK(q >= 0);
  CHECK_ERR(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr), EEXIST);
  CHECK_ERR(mq_open("/guest-missing", O_RDWR), ENOENT);
  CHECK_ERR(mq_open("no-slash", O_RDWR), EINVAL);
  CHECK_OK(mq_send(q, "low", 4, 1));
  CHECK_OK(mq_send(q, "high", 5, 9));
  CHECK_OK(mq_send(q, "low2", 5, 1));
  CHECK_OK(mq_getattr(q, &now));
  CHECK_EQ(now.mq_curmsgs, 3);
  CHECK_ERR(mq_timedsend(q, "full", 5, 1, &(struct timespec){1, 0}), ETIMEDOUT);
  unsigned prio;
  CHECK_EQ(mq_receive(q, buf, 64, &prio), 5);
  CHECK_STR(buf, "high");
  CHECK_EQ(prio, 9);
  CHECK_EQ(mq_receive(q, buf, 64, NULL), 4);
  CHECK_STR(buf, "low");
  CHECK_ERR(mq_receive(q, buf, 10, NULL), EMSGSIZE);
  CHECK_ERR(mq_send(q, buf, 65, 0), EMSGSIZE);
  CHECK_ERR(mq_send(q, buf, 1, 32768), EINVAL);
  CHECK_EQ(mq_receive(q, buf, 64, NULL), 5);
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(20);
    _exit(mq_send(q, "late", 5, 0) == 0 ? 0 : 1);
  }
  CHECK_EQ(mq_receive(q, buf, 64, NULL), 5);
  CHECK_EQ(reap(pid), 0);
  struct mq_attr nonblock = {.mq_flags = O_NONBLOCK};
  CHECK_OK(mq_setattr(q, &nonblock, NULL));
  CHECK_ERR(mq_receive(q, buf, 64, NULL), EAGAIN);
  struct pollfd p = {q, POLLIN | POLLOUT, 0};
  CHECK_EQ(poll(&p, 1, 0), 1);
  CHECK_EQ(p.revents, POLLOUT);
  CHECK_OK(mq_unlink(name));
  CHECK_ERR(mq_unlink(name), ENOENT);
}

static volatile sig_atomic_t told;
static void note(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  told = info->si_value.sival_int * 100 + (info->si_code == SI_MESGQ);
}
TEST(queue_notification) {
  char name[64];
  sprintf(name, "/guest-mq-%d", getpid());
  struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 64};
  mqd_t q = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
  struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &sa, NULL);
  struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7};
  CHECK_OK(mq_notify(q, &ev));
  CHECK_ERR(mq_notify(q, &ev), EBUSY);
  CHECK_OK(mq_send(q, "x", 1, 0));
  CHECK_EQ(told, 701);
  told = 0;
  CHECK_OK(mq_send(q, "x", 1, 0)); /* once only */
  CHECK_EQ(told, 0);
  mq_unlink(name);
}
