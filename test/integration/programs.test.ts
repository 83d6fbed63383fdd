/**
 * Real programs natively and in the sandbox, compared byte for byte. Each is a shell script that runs in an empty
 * directory; what it prints must not depend on the moment, process ids or addresses.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { PATIENCE, PLATFORMS, run, sandboxed, which } from '../support/run.ts'

const DATA = join(process.cwd(), 'test/integration/programs')
const DRIVER = join(process.cwd(), 'test/support/pty-driver.py')

interface Program {
  name: string
  /** Programs that must be installed. */
  needs?: string[]
  script: string
  seconds?: number
}

const PROGRAMS: Program[] = [
  {
    name: 'sh: pipelines, here-documents, background jobs, traps',
    script: `sh -c '
      seq 1 100 | grep 7 | sort -rn | head -5 | tr "\\n" " "; echo
      cat <<EOT | wc -l
one
two $((1 + 1))
EOT
      (sleep 0.1; echo background) & wait; echo "waited $?"
      trap "echo trapped; exit 3" TERM; kill -TERM $$; echo never
    '; echo "code $?"
    set -e; x=$(echo nested $(echo deeper)); echo "$x"; [ -f /etc/passwd ] && echo file
    echo a >f; echo b >>f; cat <f; exec 3<f; read line <&3; echo "$line"; (exit 5) || echo "failed $?"
    for i in 1 2 3; do echo $i; done | while read n; do echo "n=$n"; done
    false | true; echo "$?"; yes | head -3; echo \${PWD##*/} | wc -c; umask; ulimit -n >/dev/null && echo limit`,
  },
  {
    name: 'bash: arrays, process substitution, coprocesses, signals',
    needs: ['bash'],
    script: `diff <(seq 5) <(seq 2 6); coproc cat; echo hello >&"\${COPROC[1]}"; read -r l <&"\${COPROC[0]}"; echo "$l"
    a=(x y z); echo "\${#a[@]} \${a[1]}"; mapfile -t m < <(printf '1\\n2\\n'); echo "\${m[@]}"
    sleep 30 & p=$!; kill -9 $p; wait $p 2>/dev/null; echo "killed $?"
    (trap 'echo usr1' USR1; kill -USR1 $BASHPID; sleep 0.01; echo after)
    timeout 0.2 sleep 5; echo "timeout $?"; set -o pipefail; (exit 4) | cat; echo "pipefail $?"
    exec {fd}>out; echo through >&$fd; exec {fd}>&-; cat out; read -t 0.05 < <(sleep 1); echo "read $(( $? > 128 ))"`,
  },
  {
    name: 'ls -lR /proc/self',
    script: `ls -lR /proc/self >out 2>err; grep -c . out >/dev/null && echo some
    for f in cmdline comm cwd environ exe fd fdinfo limits maps mounts root stat status task; do ls -d /proc/self/$f; done
    ls /proc/self/fd | head -3; cat /proc/self/comm; head -c 13 /proc/version; echo; wc -w </proc/loadavg`,
  },
  {
    name: 'find /usr',
    script: 'find /usr -type f | wc -l; find /usr -type d | wc -l; find /etc -maxdepth 1 | sort | head -200',
    seconds: 120,
  },
  {
    name: 'tar and gzip of 2,000 files',
    script: `mkdir tree; for d in 0 1 2 3 4 5 6 7 8 9; do mkdir tree/$d; for i in $(seq 200); do echo "file $d $i" >tree/$d/f$i; done; done
    ln -s ../0/f1 tree/1/link; ln tree/0/f2 tree/2/hard; chmod 4711 tree/3/f1; touch -d '2001-02-03 04:05:06' tree/4/f1
    tar czf t.tgz tree; mkdir out; tar xzf t.tgz -C out; (cd tree; find . -type f | sort | xargs sha256sum) >a; (cd out/tree; find . -type f | sort | xargs sha256sum) >b
    cmp a b && sha256sum a; find out -type f | wc -l; stat -c '%a %h' out/tree/3/f1 out/tree/0/f2; stat -c %Y out/tree/4/f1; readlink out/tree/1/link
    cp -a tree copy; diff -r tree copy && echo same; rm -rf tree copy out; ls`,
    seconds: 120,
  },
  { name: 'python3', needs: ['python3'], script: `python3 ${DATA}/python-mixture.py`, seconds: 120 },
  { name: 'node', needs: ['node'], script: `${process.execPath} ${DATA}/node-mixture.mjs`, seconds: 120 },
  {
    name: 'perl',
    needs: ['perl'],
    script: `perl -e 'my %h; $h{$_ % 7} += $_ for 1..1000; print join(",", map {"$_=$h{$_}"} sort keys %h), "\\n";
      my $pid = fork; if (!$pid) { exit 7 } waitpid $pid, 0; print $? >> 8, "\\n";
      open my $p, "-|", "seq 3" or die; print <$p>; close $p; local $SIG{ALRM} = sub { print "alarm\\n" }; alarm 1; sleep 5;
      open my $f, "+>", "f"; print $f "data\\n"; seek $f, 0, 0; print <$f>; print -s "f", "\\n"; $0 = "renamed"; print \`echo backticks\`'
    printf 'b\\na\\n' | perl -ne 'push @l, $_; END { print sort @l }'`,
  },
  {
    name: 'gcc compiles and runs',
    needs: ['gcc'],
    script: `printf '#include <stdio.h>\\n#include <math.h>\\nint main(int c, char **v) { printf("%%d %%s %%.6f\\\\n", c, v[1], sin(1)); return 4; }\\n' >m.c
    gcc -O2 -Wall -o m m.c -lm; ./m arg; echo "code $?"; gcc -static -o s m.c -lm; ./s static; gcc -c m.c; ar rcs l.a m.o; nm m.o | grep -c main; gcc -E m.c | wc -l >/dev/null; echo 'broken' | gcc -x c - 2>&1 | head -1`,
    seconds: 120,
  },
  {
    name: 'git init, add, commit, clone, gc, fsck',
    needs: ['git'],
    script: `export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
    git init -q -b main r; cd r; for i in $(seq 100); do echo "content $i" >f$i; done; git add .; git commit -qm first; git rev-parse HEAD
    git mv f1 moved; echo more >>f2; git commit -qam second; git status --short; git log --oneline --stat | tail -5; git checkout -qb b; echo x >n; git add n; git commit -qm third; git checkout -q main; git merge -q --no-edit b; git rev-parse HEAD
    cd ..; git clone -q r c; cd c; git log --format=%H | wc -l; git gc -q; git fsck --full 2>&1; git count-objects -v | grep -v size; git diff HEAD~1 --stat`,
    seconds: 120,
  },
  {
    name: 'make -j4',
    needs: ['make', 'gcc'],
    script: `for i in $(seq 12); do echo "int f$i(void) { return $i; }" >f$i.c; done
    { echo '#include <stdio.h>'; for i in $(seq 12); do echo "int f$i(void);"; done; echo 'int main(void) { int s = 0;'; for i in $(seq 12); do echo "s += f$i();"; done; echo 'printf("%d\\n", s); return 0; }'; } >main.c
    printf 'OBJS := $(patsubst %%.c,%%.o,$(wildcard *.c))\\nprog: $(OBJS)\\n\\t$(CC) -o $@ $^\\n%%.o: %%.c\\n\\t@$(CC) -c -o $@ $<\\nclean:\\n\\trm -f *.o prog\\n' >Makefile
    make -s -j4 && ./prog; touch f3.c; make -s -j4 -q; echo "stale $?"; make -s -j4 && make -q; echo "fresh $?"; make -s clean; ls`,
    seconds: 120,
  },
  {
    name: 'ps aux',
    needs: ['ps'],
    // The number is this shell's: other runs of this script show the same text.
    script: `sleep 77.$$ & ps aux | head -1 | tr -s ' '; ps aux | grep -c "[s]leep 77.$$"; ps -o comm= -p $!; ps -o stat= -p $! | cut -c1; ps -o ppid= -p $! | tr -d ' ' | grep -qx $$ && echo parent; kill $!
    ps -eo pid,args >/dev/null && echo listed; free >/dev/null && echo free; uptime >/dev/null && echo uptime; top -b -n1 >/dev/null && echo top; pgrep -x bash >/dev/null && echo pgrep`,
  },
  {
    name: 'sort of 100 MB',
    script: `awk 'BEGIN { x = 42; for (i = 0; i < '$lines'; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%019d\\n", x } }' >big; stat -c %s big; sort -S 50M -T . big | sha256sum; sort -u big | wc -l`,
    seconds: 150,
  },
  {
    name: 'text tools',
    script: `seq 1000 | awk '{ s += $1 } END { print s }'; echo "hello world" | sed 's/o/0/g'; printf '3\\n1\\n2\\n' | sort -n | tr '\\n' ,; echo; seq 20 | paste -sd+ | bc 2>/dev/null || true
    head -c 100000 /dev/zero | md5sum; dd if=/dev/zero of=f bs=4096 count=100 2>/dev/null; wc -c f; split -b 100000 f part.; ls part.* | wc -l; cat part.* | cmp - f && echo joined
    seq 5 | xargs -P3 -I{} sh -c 'echo {}' | sort; seq 100 | shuf --random-source=/dev/zero | head -2; tee a b <f >/dev/null; cmp a b && echo teed; xz --version >/dev/null 2>&1 && seq 9999 | xz | xz -d | md5sum
    mkfifo p; (echo through >p &); cat p; env -i A=1 env; nice -n 5 nice; timeout 1 true; echo $?; stat -c '%F' / /dev/null /tmp; realpath ./a/../f | sed 's/.*\\///'; date -u -d @86400 +%F; expr 6 \\* 7; test -t 0 || echo no tty; id -u; hostname >/dev/null && echo host; df / >/dev/null && echo df; mount >/dev/null && echo mount`,
  },
  {
    name: 'sqlite3',
    needs: ['sqlite3'],
    script: `sqlite3 db "create table t(a,b); with recursive n(i) as (select 1 union all select i+1 from n where i<20000) insert into t select i, i*i from n; create index x on t(b); select sum(b), count(*) from t; vacuum; pragma integrity_check;"
    for i in 1 2 3 4; do sqlite3 -cmd '.timeout 10000' db "insert into t values ($i, -1)" & done; wait; sqlite3 db "select count(*) from t where b = -1"`,
  },
]

/** What `sort` sorts: 20 bytes each. Emulated it takes 20 times as long, so that there it is a tenth. */
const LINES = PLATFORMS.includes('microvm') ? 500_000 : 5_000_000
const PROLOGUE = `lines=${LINES}
d=$(mktemp -d) && cd "$d" && trap 'cd /; rm -rf "$d"' EXIT
`

describe.each(PLATFORMS)('programs on %s', (platform) => {
  for (const { name, needs = [], script, seconds = 60 } of PROGRAMS) {
    it.concurrent(name, { timeout: (seconds * 2 + 10) * PATIENCE * 1000 }, async (context) => {
      const missing = needs.filter((program) => !which(program))
      if (missing.length > 0) context.skip(`not installed: ${missing.join(', ')}`)
      const argv = ['bash', '-c', PROLOGUE + script]
      const native = await run(argv, { seconds })
      expect(native.code, `natively: ${native.stderr}`).toBe(0)
      expect(await run(sandboxed(platform, argv), { seconds })).toEqual(native)
    })
  }

  it('changes to files of the host stay in the overlay', { timeout: 60_000 * PATIENCE }, async (context) => {
    if (platform === 'microvm')
      context.skip('the overlay is the guest kernel’s: it parts hard links, and keeps lower folders’ names')
    if (!which('python3')) context.skip('not installed: python3')
    const base = mkdtempSync(join(tmpdir(), 'tssandbox-lower-'))
    const script = ['python3', join(DATA, 'lower-changes.py')]
    try {
      for (const side of ['native', 'sandbox']) await run([...script, '--prepare', join(base, side)])
      const state = async () =>
        (await run(['sh', '-c', 'find . -ls | sort; cat a b c big dir/*'], { cwd: join(base, 'sandbox') })).stdout
      const before = await state()
      const native = await run([...script, join(base, 'native')])
      expect(native.code, native.stderr).toBe(0)
      expect(await run(sandboxed(platform, [...script, join(base, 'sandbox')]))).toEqual(native)
      if (platform !== 'native') expect(await state()).toBe(before)
    } finally {
      rmSync(base, { recursive: true, force: true })
    }
  })

  const jobs = (program: readonly string[]) => ['python3', DRIVER, join(DATA, 'bash-jobs.script'), ...program]
  const shell = ['bash', '--norc', '--noprofile', '-i']
  it('bash job control on a terminal of the sandbox', { timeout: 90_000 * PATIENCE }, async (context) => {
    if (!which('python3')) context.skip('not installed: python3')
    const native = await run(jobs(shell))
    expect(native.stdout, native.stderr).toMatch(/exit 7\n$/)
    const sandbox = await run(sandboxed(platform, jobs(shell)))
    expect(sandbox.stdout, sandbox.stderr).toMatch(/exit 7\n$/)
  })
  it('bash job control on the terminal that the sandbox was started from', {
    timeout: 90_000 * PATIENCE,
  }, async (context) => {
    if (!which('python3')) context.skip('not installed: python3')
    const sandbox = await run(jobs(sandboxed(platform, shell)))
    expect(sandbox.stdout, sandbox.stderr).toMatch(/exit 7\n$/)
  })
})
