/* moorage: the CNI executable. Hands one CNI call to the node worker and the answer to the runtime.
 *
 * It sends the CNI_* variables and standard input over a unix socket as cni/wire.py describes, prints what
 * comes back and exits with the status that comes back. Of CNI it knows VERSION, which it answers alone,
 * and what to say when the node worker cannot be reached: code 50 for STATUS, else 11 ("try again later").
 * Its texts never hold what go-cni takes for success ("not found", strerror's text of ENOENT), and every
 * wait ends with the call's own time limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SECOND
#define SECOND 1000 /* milliseconds; tests compile a hastier one */
#endif
#define HEAD 4             /* bytes of a frame's length */
#define BODY (1024 * 1024) /* most bytes of a frame behind its length */
#define SHOWN 200          /* most bytes of a path that a message repeats */
#define CHUNK 4096         /* what poll() promises to fit without blocking (PIPE_BUF) */

static const struct { const char *verb; int seconds; } limits[] = {
    {"ADD", 60}, {"DEL", 20}, {"CHECK", 20}, {"GC", 25}, {"STATUS", 1}, {"VERSION", 5}, {"", 20},
};
static const char *verb, *path;
static char version[12] = "1.1.0", shown[6 * SHOWN + 1]; /* both ready to stand in a JSON string */
static char frame[HEAD + BODY + 2];                      /* one byte to see excess, one for the final NUL */
static int seconds;
static int64_t end;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Wait until fd has `events` (or an error, which the next read or write tells); -1 when the time is over. */
static int await(int fd, short events)
{
    struct pollfd item = {.fd = fd, .events = events};
    for (int64_t left; (left = end - now()) > 0;) {
        int n = poll(&item, 1, (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
    }
    errno = ETIMEDOUT;
    return -1;
}

/* Read until `want` bytes are there or the other side ends; how many came, or -1. */
static ssize_t take(int fd, char *to, size_t want)
{
    size_t got = 0;
    while (got < want) {
        if (await(fd, POLLIN))
            return -1;
        ssize_t n = read(fd, to + got, want - got);
        if (n == 0)
            break;
        if (n > 0)
            got += (size_t)n;
        else if (errno != EINTR && errno != EAGAIN)
            return -1;
    }
    return (ssize_t)got;
}

static int give(int fd, const char *from, size_t len)
{
    while (len > 0) {
        if (await(fd, POLLOUT))
            return -1;
        ssize_t n = write(fd, from, len < CHUNK ? len : CHUNK);
        if (n >= 0)
            from += n, len -= (size_t)n;
        else if (errno != EINTR && errno != EAGAIN)
            return -1;
    }
    return 0;
}

/* Print one CNI error object, errno in its details, and exit. What %s brings must be safe inside JSON. */
__attribute__((noreturn, format(printf, 3, 4))) static void fail(int code, const char *step, const char *msg, ...)
{
    int error = errno;
    char text[2048], out[2400];
    va_list rest;
    va_start(rest, msg);
    vsnprintf(text, sizeof text, msg, rest);
    va_end(rest);
    int n = snprintf(out, sizeof out,
                     "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s: error %d\"}\n",
                     version, code, text, step, error);
    end = now() + SECOND; /* the call's time may be over, the runtime still wants the reason */
    give(1, out, (size_t)n);
    exit(1);
}

static int unreachable(void) { return strcmp(verb, "STATUS") == 0 ? 50 : 11; }

/* Copy the socket's path into `shown`, safe for JSON and free of the texts that go-cni takes for success. */
static void show_path(void)
{
    char *to = shown;
    const char *from = path;
    if (strcasestr(path, "not found") || strcasestr(path, "no such file or directory"))
        from = "the path in MOORAGE_CNI_SOCKET";
    for (int i = 0; i < SHOWN && from[i] != 0; i++) {
        unsigned char c = (unsigned char)from[i];
        to += sprintf(to, c >= ' ' && c < 127 && c != '"' && c != '\\' ? "%c" : "\\u%04x", c);
    }
}

/* Remember the outermost object's "cniVersion", if it is three short numbers, for VERSION and our errors. */
static void find_version(const char *s)
{
    char a[4], b[4], c[4], quote[2];
    for (int depth = 0; *s != 0;) {
        char sign = *s++;
        depth += (sign == '{' || sign == '[') - (sign == '}' || sign == ']');
        if (sign != '"')
            continue;
        const char *word = s;
        while (*s != 0 && *s != '"')
            s += s[0] == '\\' && s[1] != 0 ? 2 : 1;
        size_t len = (size_t)(s - word);
        s += *s != 0;
        if (depth == 1 && len == 10 && memcmp(word, "cniVersion", len) == 0 &&
            sscanf(s, " : \"%3[0-9].%3[0-9].%3[0-9]%1[\"]", a, b, c, quote) == 4)
            snprintf(version, sizeof version, "%s.%s.%s", a, b, c);
    }
}

/* Put all CNI_* variables and the empty one behind them into the frame; where they end. */
static size_t put_variables(void)
{
    size_t at = HEAD;
    for (char **variable = environ; *variable != NULL; variable++) {
        size_t len = strlen(*variable) + 1;
        if (strncmp(*variable, "CNI_", 4) != 0)
            continue;
        if (at + len + 1 > HEAD + BODY)
            errno = E2BIG, fail(4, "environment", "the CNI_ variables are too long: at most 1 MiB in all");
        memcpy(frame + at, *variable, len);
        at += len;
    }
    frame[at] = 0;
    return at + 1;
}

static const char *reason(int error)
{
    switch (error) {
    case ENOENT: return "there is no socket";
    case ECONNREFUSED: return "nobody listens on it";
    case EACCES: case EPERM: return "permission denied";
    case EAGAIN: return "it takes no more calls";
    default: return "it cannot be connected to";
    }
}

static int reach_worker(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int64_t left = end > now() ? end - now() : 1;
    struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
    if (strlen(path) >= sizeof address.sun_path)
        errno = ENAMETOOLONG,
        fail(unreachable(), "connect", "the path of the node worker's socket is longer than 107 bytes (%s): "
             "set MOORAGE_CNI_SOCKET to a shorter one", shown);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), failed;
    if (fd >= 0) /* connect() waits for a place in the queue no longer than this */
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    do
        failed = connect(fd, (struct sockaddr *)&address, sizeof address);
    while (failed && errno == EINTR && now() < end);
    if (failed)
        fail(unreachable(), "connect", "the node worker cannot be reached at %s (%s): start it with "
             "'moorage node', or set MOORAGE_CNI_SOCKET to its socket", shown, reason(errno));
    return fd;
}

/* Send the frame, print the answer, return its exit status. */
static int call_worker(size_t len)
{
    uint32_t size = htonl((uint32_t)(len - HEAD));
    int fd = reach_worker();
    memcpy(frame, &size, HEAD);
    errno = 0;
    int sent = give(fd, frame, len); /* a worker that refuses may answer before it has read everything */
    ssize_t got = sent && errno == ETIMEDOUT ? -1 : take(fd, frame, HEAD);
    if (got == HEAD) {
        memcpy(&size, frame, HEAD);
        len = ntohl(size);
        int sound = len >= 1 && len <= BODY;
        got = sound ? take(fd, frame + HEAD, len) : 0;
        if (sound && got == (ssize_t)len && (len > 1 || frame[HEAD] == 0))
            return give(1, frame + HEAD + 1, len - 1) ? 1 : (unsigned char)frame[HEAD];
    }
    if (got < 0 && errno == ETIMEDOUT)
        fail(unreachable(), "answer", "the node worker at %s gave no answer within %d s: see its log; the "
             "call may be tried again", shown, seconds);
    fail(unreachable(), "answer", "the node worker at %s hung up without a whole answer: see whether "
         "'moorage node' runs and what its log says; the call may be tried again", shown);
}

int main(void)
{
    int fd, i = 0;
    while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && fd <= 2)
        ; /* a descriptor 0, 1 or 2 that was closed must not become the socket */
    signal(SIGPIPE, SIG_IGN);
    verb = getenv("CNI_COMMAND") ? getenv("CNI_COMMAND") : "";
    path = getenv("MOORAGE_CNI_SOCKET");
    if (path == NULL || *path == 0)
        path = "/run/moorage/cni.sock";
    show_path();
    while (limits[i].verb[0] != 0 && strcmp(limits[i].verb, verb) != 0)
        i++;
    seconds = limits[i].seconds;
    end = now() + seconds * (int64_t)SECOND;

    int ask_version = strcmp(verb, "VERSION") == 0;
    size_t at = ask_version ? HEAD : put_variables();
    ssize_t got = take(0, frame + at, HEAD + BODY + 1 - at);
    find_version(frame + at);
    if (ask_version) {
        int n = sprintf(frame, "{\"cniVersion\":\"%s\",\"supportedVersions\":"
                        "[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n", version);
        end = now() + SECOND;
        return give(1, frame, (size_t)n) ? 1 : 0;
    }
    if (got < 0 && errno == ETIMEDOUT)
        fail(5, "read", "standard input did not end within %d s", seconds);
    if (got < 0)
        fail(5, "read", "standard input cannot be read");
    if (at + (size_t)got > HEAD + BODY)
        errno = E2BIG, fail(7, "read", "the configuration on standard input is too long: at most 1 MiB");
    return call_worker(at + (size_t)got);
}
