/* Run a command, and all that it starts, with another time of day; every other clock stays as it is.

   clock_shift SECONDS COMMAND [ARGUMENT...]

   The vDSO is hidden from each program at its exec, so that it asks the kernel for the time; a filter
   has the kernel ask us, and we answer with the time SECONDS from now. This works for a program
   without libc too (etcd is in Go), where a preloaded library does not. x86_64 Linux alone.

   All that it started is killed when it ends, however that is. */

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long shift;
static pid_t child;

static void fail(const char *what)
{
    perror(what);
    exit(125);
}

static void pass_on(int number)
{
    if (child > 0)
        kill(child, number);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)

static void ask_us_for_the_time(void)
{
    struct sock_filter program[] = {
        LOAD(nr),
        IF(SYS_clock_gettime, 3, 0),
        IF(SYS_gettimeofday, 5, 0),
        IF(SYS_time, 4, 0),
        RETURN(SECCOMP_RET_ALLOW),
        LOAD(args[0]),
        IF(CLOCK_REALTIME, 1, 0),
        IF(CLOCK_REALTIME_COARSE, 0, 1),
        RETURN(SECCOMP_RET_TRACE),
        RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        fail("seccomp");
}

static void write_to(pid_t pid, unsigned long long address, const void *data, size_t size)
{
    struct iovec from = {(void *)data, size}, to = {(void *)address, size};
    process_vm_writev(pid, &from, 1, &to, 1, 0);
}

static void tell_the_time(pid_t pid)
{
    struct user_regs_struct regs;
    struct timespec now;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += shift;
    if (regs.orig_rax == SYS_clock_gettime)
        write_to(pid, regs.rsi, &now, sizeof now);
    if (regs.orig_rax == SYS_gettimeofday && regs.rdi) {
        struct timeval coarse = {now.tv_sec, now.tv_nsec / 1000};
        write_to(pid, regs.rdi, &coarse, sizeof coarse);
    }
    if (regs.orig_rax == SYS_time && regs.rdi)
        write_to(pid, regs.rdi, &now.tv_sec, sizeof now.tv_sec);
    regs.rax = regs.orig_rax == SYS_time ? now.tv_sec : 0;
    regs.orig_rax = -1; /* no system call: it has its answer */
    ptrace(PTRACE_SETREGS, pid, 0, &regs);
}

/* At an exec the stack has: argc, arguments, 0, variables, 0, pairs of the auxiliary vector. */
static void hide_vdso(pid_t pid)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
        return;
    unsigned long long at = regs.rsp;
    at += 8 * (ptrace(PTRACE_PEEKDATA, pid, at, 0) + 2);
    while (ptrace(PTRACE_PEEKDATA, pid, at, 0))
        at += 8;
    for (at += 8;; at += 16) {
        long kind = ptrace(PTRACE_PEEKDATA, pid, at, 0);
        if (kind == AT_SYSINFO_EHDR)
            ptrace(PTRACE_POKEDATA, pid, at, AT_IGNORE);
        if (kind == AT_NULL || kind == -1)
            return;
    }
}

static void handle(pid_t pid, int status)
{
    int number = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_STOP && (number == SIGSTOP || number == SIGTSTP || number == SIGTTIN ||
                                       number == SIGTTOU)) {
        ptrace(PTRACE_LISTEN, pid, 0, 0);
        return;
    }
    if (event == PTRACE_EVENT_SECCOMP)
        tell_the_time(pid);
    if (event == PTRACE_EVENT_EXEC)
        hide_vdso(pid);
    ptrace(PTRACE_CONT, pid, 0, event ? 0 : number);
}

static void start(char **command)
{
    int ready[2];
    char byte = 0;
    if (pipe(ready) || (child = fork()) < 0)
        fail("fork");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(ready[0], &byte, 1) != 1)
            _exit(125);
        close(ready[0]);
        close(ready[1]);
        ask_us_for_the_time();
        execvp(command[0], command);
        fail(command[0]);
    }
    if (ptrace(PTRACE_SEIZE, child, 0,
               PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK))
        fail("ptrace");
    if (write(ready[1], &byte, 1) != 1)
        fail("pipe");
    close(ready[0]);
    close(ready[1]);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 125;
    shift = atoll(argv[1]);
    signal(SIGTERM, pass_on);
    signal(SIGINT, pass_on);
    start(argv + 2);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return 125;
        if (WIFSTOPPED(status))
            handle(pid, status);
        else if (pid == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}
