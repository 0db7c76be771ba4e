/* Partners' servers for benchmarks: thousands of URLs in one process, kept connections, one thread.
 *
 * sink DOOR CONTROL PARTNERS HOSTS: listens at DOOR on 127.0.1.0, 127.0.1.1 … (HOSTS of them), and for its
 * one master at CONTROL on 127.0.0.1. A request is POST /N, N the number of a partner, with Content-Length;
 * its body is read to its end before it is answered. What each partner does is told over CONTROL, by line:
 *
 *   mode FROM TO MODE   partners FROM to TO - 1: answer (204), hang, busy (503), reset           -> ok
 *   shut FROM TO        the doors of hosts FROM to TO - 1 refuse; who is inside is thrown out    -> ok
 *   open FROM TO        they are open again                                                      -> ok
 *   count               requests so far                                                          -> N
 *   log FROM            what came, from the FROM-th on: N, then N records of 32 bytes            -> N …
 *
 * A record, in the order of arrival: nanoseconds of the monotonic clock (64 bits), partner (24) and mode (8),
 * the sequence number in the body (32), the 16 bytes of the header webhook-id. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER, HANG, BUSY, RESET };
enum { DOOR = 1, MASTER_DOOR, MASTER, PARTNER };
static const char *const modes[] = {"answer", "hang", "busy", "reset"};

struct record { uint64_t at; uint32_t partner_mode, sequence; unsigned char id[16]; };
struct conversation { int fd, kind; size_t held, room; char *buffer; };

static unsigned char *mode_of;
static uint32_t partners;
static struct conversation *doors[256];
static int hosts, door_port;
static struct record *records;
static size_t count, room;
static int poller;

static void die(const char *what) { perror(what); exit(1); }

static struct conversation *watch(int fd, int kind) {
    struct conversation *one = calloc(1, sizeof *one);
    if (one == NULL) die("calloc");
    one->fd = fd, one->kind = kind;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    return one;
}

static void end(struct conversation *one) { close(one->fd), free(one->buffer), free(one); }

static struct conversation *listen_at(uint32_t address, int port, int kind) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&place, sizeof place) < 0 || listen(fd, 4096) < 0) die("listen");
    return watch(fd, kind);
}

static void set_doors(unsigned long from, unsigned long to, int open) {
    for (unsigned long host = from; host < to; host++) {
        if (open && doors[host] == NULL) doors[host] = listen_at(0x7f000100u + (uint32_t)host, door_port, DOOR);
        if (!open && doors[host] != NULL) end(doors[host]), doors[host] = NULL;
    }
}

static void come_in(struct conversation *door) {
    int fd, yes = 1;
    while ((fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(fd, door->kind == DOOR ? PARTNER : MASTER);
    }
}

static void say(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t sent = write(fd, text, length);
        if (sent < 0 && errno == EAGAIN) { usleep(200); continue; }
        if (sent <= 0) return;
        text += sent, length -= (size_t)sent;
    }
}

/* The value of a header of a head that ends in an empty line; NULL if it is not there. */
static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':')
            return line + 3 + length + strspn(line + 3 + length, " ");
    return NULL;
}

static void read_id(const char *text, unsigned char *id) {
    for (int digit = 0; text != NULL && *text > ' ' && digit < 32; text++) {
        int value = *text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10;
        if (*text == '-') continue;
        if (value < 0 || value > 15) return;
        id[digit / 2] = (unsigned char)(id[digit / 2] << 4 | value), digit++;
    }
}

static void keep(uint32_t partner, int mode, const char *head, const char *body, size_t length) {
    static const char name[] = "\"sequence\":";
    if (count == room && (records = realloc(records, (room = room ? 2 * room : 65536) * sizeof *records)) == NULL)
        die("realloc");
    struct record *one = &records[count++];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const char *sequence = memmem(body, length, name, sizeof name - 1);
    memset(one, 0, sizeof *one);
    one->at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    one->partner_mode = partner << 8 | (uint32_t)mode;
    one->sequence = sequence ? (uint32_t)strtoul(sequence + sizeof name - 1, NULL, 10) : 0;
    read_id(header(head, "webhook-id"), one->id);
}

/* Bytes of the first request of what is held, once it is whole and answered; 0 while it is not; -1: end this. */
static ssize_t answer(struct conversation *one) {
    static const char good[] = "HTTP/1.1 204 No Content\r\n\r\n";
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    one->buffer[one->held] = 0;
    char *rest = strstr(one->buffer, "\r\n\r\n");
    if (rest == NULL) return one->held > 16384 ? -1 : 0;
    size_t head = (size_t)(rest - one->buffer) + 4;
    char kept = one->buffer[head];
    one->buffer[head] = 0;
    const char *length = header(one->buffer, "content-length");
    size_t body = length ? strtoul(length, NULL, 10) : 0;
    one->buffer[head] = kept;
    uint32_t partner = (uint32_t)strtoul(one->buffer + 6, NULL, 10);
    if (length == NULL || strncmp(one->buffer, "POST /", 6) != 0 || partner >= partners) return -1;
    if (one->held < head + body) return 0;
    if (doors[partner % (uint32_t)hosts] == NULL) return -1;
    int mode = mode_of[partner];
    one->buffer[head - 1] = 0;
    keep(partner, mode, one->buffer, one->buffer + head, body);
    if (mode == RESET) {
        struct linger hard = {.l_onoff = 1};
        setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        return -1;
    }
    if (mode == ANSWER) say(one->fd, good, sizeof good - 1);
    if (mode == BUSY) say(one->fd, busy, sizeof busy - 1);
    return (ssize_t)(head + body);
}

static ssize_t obey(struct conversation *one) {
    char told[64], *stop = memchr(one->buffer, '\n', one->held);
    unsigned long from = 0, to = 0;
    if (stop == NULL) return one->held > 200 ? -1 : 0;
    *stop = 0;
    char word[16] = "";
    if (sscanf(one->buffer, "mode %lu %lu %15s", &from, &to, word) == 3 && from <= to && to <= partners) {
        for (int mode = ANSWER; mode <= RESET; mode++)
            if (strcmp(word, modes[mode]) == 0) {
                memset(mode_of + from, mode, to - from);
                say(one->fd, "ok\n", 3);
                return stop - one->buffer + 1;
            }
        return -1;
    }
    if (sscanf(one->buffer, "%15s %lu %lu", word, &from, &to) == 3 && from <= to && to <= (unsigned long)hosts
        && (strcmp(word, "shut") == 0 || strcmp(word, "open") == 0)) {
        set_doors(from, to, word[0] == 'o');
        say(one->fd, "ok\n", 3);
    } else if (strcmp(one->buffer, "count") == 0) {
        say(one->fd, told, (size_t)snprintf(told, sizeof told, "%zu\n", count));
    } else if (sscanf(one->buffer, "log %lu", &from) == 1 && from <= count) {
        say(one->fd, told, (size_t)snprintf(told, sizeof told, "%zu\n", count - from));
        say(one->fd, (const char *)(records + from), (count - from) * sizeof *records);
    } else {
        return -1;
    }
    return stop - one->buffer + 1;
}

static void listen_to(struct conversation *one) {
    for (;;) {
        if (one->held + 1 >= one->room && one->room < 1 << 22
            && (one->buffer = realloc(one->buffer, one->room = one->room ? 2 * one->room : 8192)) == NULL)
            die("realloc");
        ssize_t got = read(one->fd, one->buffer + one->held, one->room - one->held - 1);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) { end(one); return; }
        one->held += (size_t)got;
        int whole = one->held + 1 < one->room;
        ssize_t used;
        while (one->held > 0 && (used = one->kind == MASTER ? obey(one) : answer(one)) != 0) {
            if (used < 0) { end(one); return; }
            memmove(one->buffer, one->buffer + used, one->held -= (size_t)used);
        }
        if (whole) return;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) { fputs("sink DOOR CONTROL PARTNERS HOSTS\n", stderr); return 2; }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    partners = (uint32_t)atoi(argv[3]);
    mode_of = calloc(partners, 1);
    poller = epoll_create1(0);
    listen_at(INADDR_LOOPBACK, atoi(argv[2]), MASTER_DOOR);
    door_port = atoi(argv[1]), hosts = atoi(argv[4]);
    if (hosts < 1 || hosts > 256) return 2;
    set_doors(0, (unsigned long)hosts, 1);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int found = epoll_wait(poller, events, 256, -1);
        for (int at = 0; at < found; at++) {
            struct conversation *one = events[at].data.ptr;
            if (one->kind <= MASTER_DOOR) come_in(one); else listen_to(one);
        }
    }
}
