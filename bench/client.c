/* The client of the bench, the soak and the abuse canary: TLS through a proxy, HTTP/1.1 or HTTP/2, every response checked.
 *
 * What a response must be follows from what was asked. The origin answers /t/NONCE with the line "HOST /t/NONCE\n", so
 * that an answer that belongs to somebody else shows; /r/NONCE with that line 200 times; /file with 64 KiB blocks whose
 * every byte is the block's number. Anything else is an error, told on stderr as it happens:
 *
 *     E start end stage host what      (seconds of CLOCK_MONOTONIC)
 *
 * Stages: tcp, connect, handshake, request, response, status, reset, goaway; "wrong": an answer that is not the one;
 * "stale": a connection that was open is closed before a byte of the answer, as a server may between two requests.
 *
 * At the end one line of JSON with counts and times (milliseconds) is on stdout. With --gate it first says "ready" and
 * waits for a line on stdin, after --open connections stand; they stay open until stdin ends.
 *
 * Threads block; each has one connection at a time beside the open ones, which threads share out by number.
 * build: cc -O2 -Wall -Wextra -o client client.c -lssl -lcrypto -lpthread
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 16, SAMPLES = 1 << 21, MOST_STREAMS = 100, REPEATED = 200, BLOCK = 1 << 16 };

static struct sockaddr_in proxy, target, source;
static int direct, resume, named, gate, over, hosts = 1, first, streams, threads = 8, patience = 30, quiet;
static long connections, per_connection = 1, opened;
static double open_until = 1e18, seconds = 1e9, rate, cut_share, begun, deadline;
static const char *pattern = "h%d.bench.test", *kind = "t", *status_wanted = "200";
static long file_size;
static SSL_CTX *ctx;
static int limited_bio_type;
static BIO_METHOD *limited_bio;
static atomic_long next_connection, next_slot, done_connections, done_requests, failed, wrong, cuts, bytes, resumed, nonces, missed;
static atomic_long handshake_count, request_count;
static float *handshake_ms, *request_ms;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* --- bytes on the wire: a BIO that can end after a number of them, for clients that are cut --- */

typedef struct {
  int fd;
  long budget; /* bytes that may still pass in either direction; negative: any number */
  int cut;
} Wire;

static long allowed(Wire *w, long n) {
  if (w->budget < 0) return n;
  if (w->budget == 0) { w->cut = 1; return 0; }
  return n < w->budget ? n : w->budget;
}

static int wire_write(BIO *b, const char *data, int n) {
  Wire *w = BIO_get_data(b);
  long most = allowed(w, n);
  if (!most) return -1;
  ssize_t done = send(w->fd, data, most, MSG_NOSIGNAL);
  if (done > 0 && w->budget > 0) w->budget -= done;
  return (int)done;
}

static int wire_read(BIO *b, char *data, int n) {
  Wire *w = BIO_get_data(b);
  long most = allowed(w, n);
  if (!most) return -1;
  ssize_t done = recv(w->fd, data, most, 0);
  if (done > 0 && w->budget > 0) w->budget -= done;
  if (!done) BIO_set_flags(b, BIO_FLAGS_IN_EOF);
  return (int)done;
}

static long wire_control(BIO *b, int what, long number, void *pointer) {
  (void)number;
  (void)pointer;
  if (what == BIO_CTRL_EOF) return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
  return what == BIO_CTRL_FLUSH || what == BIO_CTRL_PUSH || what == BIO_CTRL_POP;
}

/* --- one connection --- */

typedef struct {
  SSL *ssl;
  Wire wire;
  char host[96];
  int number;
  long asked;      /* requests so far */
  int h2_begun;
  long received;   /* bytes since the last request */
  double used;     /* when the last answer was whole */
  unsigned char in[ROOM + 16];
  int have;        /* bytes of `in` */
} Conn;

/* Per thread, what went wrong last: for the line on stderr. */
static __thread char stage[16], what[240];

static int fail(const char *where, const char *text) {
  snprintf(stage, sizeof stage, "%s", where);
  snprintf(what, sizeof what, "%s", text ? text : "");
  for (char *c = what; *c; c++)
    if (*c == '\n' || *c == '\r') *c = '|';
  return -1;
}

static const char *tls_reason(SSL *ssl, int result) {
  static __thread char text[160];
  int kind_of = SSL_get_error(ssl, result);
  unsigned long e = ERR_get_error();
  if (kind_of == SSL_ERROR_ZERO_RETURN) return "close_notify";
  if (e) { ERR_error_string_n(e, text, sizeof text); return text; }
  if (errno == EAGAIN) return "timed out";
  return errno ? strerror(errno) : "closed";
}

/* Of a connection that was closed while nothing was asked, the time in which it happened begins with its last use. */
static void told(double start, const Conn *c) {
  const char *host = c->host;
  if (!strcmp(stage, "stale")) start = c->used;
  if (!strcmp(stage, "wrong")) atomic_fetch_add(&wrong, 1);
  atomic_fetch_add(&failed, 1);
  if (!quiet) fprintf(stderr, "E %.4f %.4f %s %s %s\n", start, now(), stage, host, what);
}

static int open_tcp(Wire *w) {
  const struct sockaddr_in *to = direct ? &target : &proxy;
  struct timeval t = {patience, 0};
  int one = 1;
  w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (w->fd < 0) return fail("tcp", strerror(errno));
  setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  setsockopt(w->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
  if (source.sin_family) bind(w->fd, (const struct sockaddr *)&source, sizeof source);
  if (connect(w->fd, (const struct sockaddr *)to, sizeof *to) == 0) return 0;
  fail("tcp", strerror(errno));
  close(w->fd);
  w->fd = -1;
  return -1;
}

static int tunnel(Conn *c, BIO *bio) {
  char text[400], where[128];
  if (named) snprintf(where, sizeof where, "%s:%d", c->host, ntohs(target.sin_port));
  else snprintf(where, sizeof where, "%s:%d", inet_ntoa(target.sin_addr), ntohs(target.sin_port));
  int n = snprintf(text, sizeof text, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", where, where);
  int got = 0;
  errno = 0;
  for (int sent = 0; sent < n;) {
    int done = wire_write(bio, text + sent, n - sent);
    if (done <= 0) return fail("connect", "could not be sent");
    sent += done;
  }
  for (;;) {
    n = wire_read(bio, text + got, 1);  /* byte by byte: what follows the head is TLS */
    if (n <= 0) return fail("connect", errno == EAGAIN ? "timed out" : errno ? strerror(errno) : "closed");
    got += n;
    text[got] = 0;
    if (got >= 4 && !memcmp(text + got - 4, "\r\n\r\n", 4)) break;
    if (got > (int)sizeof text - 2) return fail("connect", text);
  }
  return text[9] == '2' ? 0 : fail("connect", text);
}

static int connect_tls(Conn *c, SSL_SESSION **session) {
  double start = now();
  c->have = c->h2_begun = 0;
  c->asked = 0;
  c->ssl = NULL;
  if (open_tcp(&c->wire)) return -1;
  BIO *bio = BIO_new(limited_bio);
  BIO_set_data(bio, &c->wire);
  BIO_set_init(bio, 1);
  if (!direct && tunnel(c, bio)) { BIO_free(bio); return -1; }
  c->ssl = SSL_new(ctx);
  SSL_set_bio(c->ssl, bio, bio);
  SSL_set_tlsext_host_name(c->ssl, c->host);
  SSL_set1_host(c->ssl, c->host);
  SSL_set_app_data(c->ssl, (char *)(size_t)(c->number % hosts));
  if (session && *session) SSL_set_session(c->ssl, *session);
  errno = 0;
  ERR_clear_error();
  int r = SSL_connect(c->ssl);
  if (r != 1) return fail("handshake", tls_reason(c->ssl, r));
  if (SSL_session_reused(c->ssl)) atomic_fetch_add(&resumed, 1);
  if (streams) {
    const unsigned char *name;
    unsigned length;
    SSL_get0_alpn_selected(c->ssl, &name, &length);
    if (length != 2 || memcmp(name, "h2", 2)) return fail("handshake", "no h2 in the answer's ALPN");
  }
  long i = atomic_fetch_add(&handshake_count, 1);
  if (i < SAMPLES) handshake_ms[i] = (float)((now() - start) * 1e3);
  return 0;
}

static void hang_up(Conn *c, int rudely) {
  if (c->ssl) {
    if (!rudely) SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    c->ssl = NULL;
  }
  if (c->wire.fd >= 0) {
    if (rudely && c->number % 2) {
      struct linger reset = {1, 0};
      setsockopt(c->wire.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    close(c->wire.fd);
  }
  c->wire.fd = -1;
}

static int send_all(Conn *c, const void *data, int n) {
  errno = 0;
  ERR_clear_error();
  int r = SSL_write(c->ssl, data, n);
  return r == n ? 0 : fail("request", tls_reason(c->ssl, r));
}

static int receive(Conn *c) {
  errno = 0;
  ERR_clear_error();
  int r = SSL_read(c->ssl, c->in + c->have, ROOM - c->have);
  if (r <= 0) return fail("response", tls_reason(c->ssl, r));
  c->have += r;
  if (!streams || c->in[3] == 0 || c->in[3] == 1) c->received += r;
  atomic_fetch_add(&bytes, r);
  return 0;
}

static void consume(Conn *c, int n) {
  memmove(c->in, c->in + n, c->have - n);
  c->have -= n;
}

/* --- what a body has to be --- */

typedef struct {
  char line[200];
  int length;
  long size, got;
} Wanted;

static void want(Wanted *w, const char *host, const char *path) {
  w->got = 0;
  w->length = snprintf(w->line, sizeof w->line, "%s %s\n", host, path);
  w->size = *kind == 'f' ? file_size : *kind == 'r' ? (long)w->length * REPEATED : w->length;
}

static int check(Wanted *w, const unsigned char *data, long n) {
  if (w->got + n > w->size) return fail("wrong", "more than was asked for");
  while (n) {
    long step;
    if (*kind == 'f') {
      step = BLOCK - w->got % BLOCK;
      if (step > n) step = n;
      unsigned char block = (unsigned char)(w->got / BLOCK);
      if (data[0] != block || (step > 1 && memcmp(data, data + 1, step - 1))) return fail("wrong", "other bytes of the file");
    } else {
      long at = w->got % w->length;
      step = w->length - at;
      if (step > n) step = n;
      if (memcmp(data, w->line + at, step)) {
        char text[400];
        snprintf(text, sizeof text, "got %.*s for %s", (int)(n < 80 ? n : 80), (const char *)data, w->line);
        return fail("wrong", text);
      }
    }
    w->got += step;
    data += step;
    n -= step;
  }
  return 0;
}

static void make_path(char *path, size_t room) {
  if (*kind == 'f') snprintf(path, room, "/file");
  else snprintf(path, room, "/%s/%x-%lx", kind, (unsigned)getpid(), atomic_fetch_add(&nonces, 1));
}

/* --- HTTP/1.1 --- */

static int body_piece(Conn *c, Wanted *w, long n) {
  if (check(w, c->in, n)) return -1;
  consume(c, (int)n);
  return 0;
}

static int chunked(Conn *c, Wanted *w) {
  for (;;) {
    unsigned char *end;
    while (!(end = memmem(c->in, c->have, "\r\n", 2)))
      if (receive(c)) return -1;
    long size = strtol((char *)c->in, NULL, 16);
    consume(c, (int)(end + 2 - c->in));
    for (long left = size; left;) {
      if (!c->have && receive(c)) return -1;
      long n = left < c->have ? left : c->have;
      if (body_piece(c, w, n)) return -1;
      left -= n;
    }
    while (c->have < 2)
      if (receive(c)) return -1;
    if (memcmp(c->in, "\r\n", 2)) return fail("wrong", "a chunk without an end, or trailers");
    consume(c, 2);
    if (!size) return 0;
  }
}

static int get_http1(Conn *c, int last) {
  char path[64], text[400];
  Wanted w;
  make_path(path, sizeof path);
  want(&w, c->host, path);
  int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: bench\r\nConnection: %s\r\n\r\n", path,
                   c->host, ntohs(target.sin_port), last ? "close" : "keep-alive");
  if (send_all(c, text, n)) return -1;
  unsigned char *end;
  while (!(end = memmem(c->in, c->have, "\r\n\r\n", 4))) {
    if (c->have == ROOM) return fail("wrong", "a head without an end");
    if (receive(c)) return -1;
  }
  *(end + 2) = 0;
  if (c->have < 12 || memcmp(c->in, "HTTP/1.1 ", 9) || memcmp(c->in + 9, status_wanted, 3)) {
    char *why = strcasestr((char *)c->in, "\r\nproxy-status:");
    snprintf(text, sizeof text, "%.12s %.120s", c->in, why ? why + 2 : "");
    return fail("status", text);
  }
  char *length = strcasestr((char *)c->in, "\r\ncontent-length:");
  int pieces = strcasestr((char *)c->in, "\r\ntransfer-encoding: chunked") != NULL;
  long size = length ? atol(length + 17) : -1;
  consume(c, (int)(end + 4 - c->in));
  if (memcmp(status_wanted, "200", 3)) {  /* an answer of the proxy's own: what counts is that it is one */
    while (size > 0) {
      if (!c->have && receive(c)) return -1;
      long piece = size < c->have ? size : c->have;
      consume(c, (int)piece);
      size -= piece;
    }
    return 0;
  }
  if (pieces) {
    if (chunked(c, &w)) return -1;
  } else {
    if (size < 0) return fail("wrong", "a response without a length");
    while (size) {
      if (!c->have && receive(c)) return -1;
      long piece = size < c->have ? size : c->have;
      if (body_piece(c, &w, piece)) return -1;
      size -= piece;
    }
  }
  return w.got == w.size ? 0 : fail("wrong", "less than was asked for");
}

/* --- HTTP/2 (RFC 9113): the peer may keep no header table, so that a block can be read by itself --- */

static unsigned char *frame(unsigned char *at, int length, int type, int flags, unsigned stream) {
  unsigned char head[9] = {length >> 16, length >> 8, length, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
  memcpy(at, head, 9);
  return at + 9;
}

static unsigned char *literal(unsigned char *at, int index, const char *text) {
  *at++ = (unsigned char)index;  /* RFC 7541 section 6.2.2: without indexing, not Huffman coded */
  *at++ = (unsigned char)strlen(text);
  memcpy(at, text, strlen(text));
  return at + strlen(text);
}

/* The :status at the beginning of a block; 0: something else. RFC 7541 sections 6.1 to 6.3 and appendix B. */
static int status_of(const unsigned char *b, int n) {
  static const int known[] = {200, 204, 206, 304, 400, 404, 500};
  while (n && (*b & 0xe0) == 0x20) b++, n--;
  if (!n) return 0;
  if (*b >= 0x88 && *b <= 0x8e) return known[*b - 0x88];
  if ((*b & 0xbf) != 8 && *b != 0x18) return 0;
  int huffman = n > 1 && b[1] & 0x80, length = n > 1 ? b[1] & 0x7f : 0, value = 0;
  if (n < 2 + length) return 0;
  if (!huffman) return length == 3 ? (b[2] - '0') * 100 + (b[3] - '0') * 10 + b[4] - '0' : 0;
  unsigned long bits = 0;
  int have = 0;
  for (int i = 0; i < length; i++) bits = bits << 8 | b[2 + i], have += 8;
  for (int digit = 0; digit < 3; digit++) {
    if (have < 5) return 0;
    unsigned five = bits >> (have - 5) & 31;
    if (five < 3) { value = value * 10 + (int)five; have -= 5; continue; }
    if (have < 6) return 0;
    value = value * 10 + (int)(bits >> (have - 6) & 63) - 0x19 + 3;
    have -= 6;
  }
  return value;
}

static int get_http2(Conn *c, int n, long *completed) {
  unsigned char out[MOST_STREAMS * 320 + 128], *at = out;
  Wanted wanted[MOST_STREAMS];
  char over_[MOST_STREAMS] = {0}, authority[128], path[64];
  unsigned base = (unsigned)(1 + 2 * c->asked);
  int left = n;
  if (!c->h2_begun) {
    static const unsigned char settings[] = {0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff};
    at = (unsigned char *)mempcpy(at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    at = mempcpy(frame(at, sizeof settings, 4, 0, 0), settings, sizeof settings);
    at = mempcpy(frame(at, 4, 8, 0, 0), "\x7f\xfe\xff\xff", 4);
    c->h2_begun = 1;
  }
  snprintf(authority, sizeof authority, "%s:%d", c->host, ntohs(target.sin_port));
  for (int i = 0; i < n; i++) {
    make_path(path, sizeof path);
    want(&wanted[i], c->host, path);
    unsigned char *block = at + 9, *p = block;
    *p++ = 0x82;
    *p++ = 0x87;
    p = literal(p, 4, path);
    p = literal(p, 1, authority);
    frame(at, (int)(p - block), 1, 5, base + 2 * (unsigned)i);
    at = p;
  }
  if (send_all(c, out, (int)(at - out))) return -1;
  while (left) {
    while (c->have < 9)
      if (receive(c)) return -1;
    int length = c->in[0] << 16 | c->in[1] << 8 | c->in[2], type = c->in[3], flags = c->in[4];
    unsigned stream = ntohl(*(unsigned *)(c->in + 5)) & 0x7fffffff;
    if (length > ROOM - 9) return fail("wrong", "a frame that is too large");
    while (c->have < 9 + length)
      if (receive(c)) return -1;
    const unsigned char *payload = c->in + 9;
    int size = length, ours = stream >= base && stream < base + 2 * (unsigned)n, i = (int)(stream - base) / 2;
    char text[100];
    if ((type == 0 || type == 1) && flags & 8) { size -= 1 + payload[0]; payload++; }
    if (type == 1 && flags & 0x20) { payload += 5; size -= 5; }
    if (type <= 1 && ours && over_[i]) return fail("wrong", "bytes behind the end of a stream");
    if (type == 0 && stream && !ours) return fail("wrong", "DATA for a stream that nobody asked for");
    if (type == 1 && ours) {
      int status = status_of(payload, size);
      if (status != atoi(status_wanted)) {
        snprintf(text, sizeof text, "HTTP/2 %d", status);
        return fail("status", text);
      }
    } else if (type == 0 && ours && !memcmp(status_wanted, "200", 3)) {
      if (check(&wanted[i], payload, size)) return -1;
    } else if (type == 3 && ours) {
      snprintf(text, sizeof text, "RST_STREAM %u", ntohl(*(const unsigned *)payload));
      return fail("reset", text);
    } else if (type == 7) {
      snprintf(text, sizeof text, "GOAWAY %u after stream %u", ntohl(*(const unsigned *)(payload + 4)), ntohl(*(const unsigned *)payload));
      return fail("goaway", text);
    } else if (type == 4 && !(flags & 1)) {
      unsigned char ack[9];
      frame(ack, 0, 4, 1, 0);
      if (send_all(c, ack, 9)) return -1;
    } else if (type == 6 && !(flags & 1)) {
      unsigned char ack[17];
      memcpy(frame(ack, 8, 6, 1, 0), payload, 8);
      if (send_all(c, ack, 17)) return -1;
    }
    if (type <= 1 && ours && flags & 1) {
      if (!memcmp(status_wanted, "200", 3) && wanted[i].got != wanted[i].size) return fail("wrong", "less than was asked for");
      over_[i] = 1;
      left--;
      ++*completed;
    }
    consume(c, 9 + length);
  }
  return 0;
}

/* --- the work --- */

static double wait_for_turn(void) {
  if (rate <= 0) return now();
  /* Turns that nobody was free for are missed, and counted: caught up on, they would be a flood of our own making. */
  long slot = atomic_fetch_add(&next_slot, 1), due = (long)((now() - begun) * rate);
  if (slot < due) {
    long seen = slot + 1;
    while (seen < due && !atomic_compare_exchange_weak(&next_slot, &seen, due)) { }
    if (seen < due) atomic_fetch_add(&missed, due - seen);
    return now();
  }
  double left = begun + (double)slot / rate - now();
  if (left > 0) usleep((useconds_t)(left * 1e6));
  return now();
}

static void timed(double start, long count) {
  float ms = (float)((now() - start) * 1e3);
  for (; count; count--) {
    long i = atomic_fetch_add(&request_count, 1);
    if (i < SAMPLES) request_ms[i] = ms;
    atomic_fetch_add(&done_requests, 1);
  }
}

/* One turn: a request, or one on each of the streams. 0: all is well. */
static int turn(Conn *c, int last, double start) {
  long completed = 0, n = streams ? streams : 1;
  c->received = 0;
  int bad = streams ? get_http2(c, streams, &completed) : get_http1(c, last);
  int over_already = !strcmp(stage, "request") || !strcmp(stage, "goaway") || !strcmp(stage, "response");
  if (bad && c->asked && over_already && !c->received && !strstr(what, "timed out")) strcpy(stage, "stale");
  c->asked += n;
  timed(start, bad ? completed : n);
  if (!bad) c->used = now();
  return bad;
}

static void name_host(Conn *c, long id) {
  c->number = (int)id;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  snprintf(c->host, sizeof c->host, pattern, first + (int)(id % hosts));
#pragma GCC diagnostic pop
}

static Conn **held;
static SSL_SESSION **sessions;
static pthread_mutex_t *session_locks;

static int keep_session(SSL *ssl, SSL_SESSION *session) {
  long id = (long)(size_t)SSL_get_app_data(ssl);
  pthread_mutex_lock(&session_locks[id]);
  if (sessions[id]) SSL_SESSION_free(sessions[id]);
  sessions[id] = session;
  pthread_mutex_unlock(&session_locks[id]);
  return 1;
}

static void *open_some(void *part) {
  for (long i = (long)(size_t)part; i < opened && now() < open_until; i += threads) {
    Conn *c = calloc(1, sizeof *c);
    double start = now();
    c->wire.budget = c->wire.fd = -1;
    name_host(c, i);
    if (connect_tls(c, NULL) || turn(c, 0, start)) {
      told(start, c);
      hang_up(c, 1);
      free(c);
      continue;
    }
    held[i] = c;
  }
  return NULL;
}

static void *ask_over(void *part) {
  long first_one = (long)(size_t)part;
  /* Each thread has every threads-th connection to itself. */
  for (long i = first_one; i < opened && now() < deadline; i = i + threads < opened ? i + threads : first_one) {
    if (connections && atomic_fetch_add(&next_connection, 1) >= connections) break;
    double start = wait_for_turn();
    if (now() >= deadline) break;
    Conn *c = held[i];
    if (!c) { usleep(100); continue; }
    if (turn(c, 0, start)) {
      told(start, c);
      hang_up(c, 1);
      free(c);
      held[i] = NULL;
    }
  }
  return NULL;
}

static void *work(void *unused) {
  (void)unused;
  Conn *c = calloc(1, sizeof *c);
  unsigned seed = (unsigned)(getpid() ^ (long)pthread_self());
  for (long id; now() < deadline && ((id = atomic_fetch_add(&next_connection, 1)) < connections || !connections);) {
    double start = wait_for_turn();
    if (now() >= deadline) break;
    int cutting = cut_share > 0 && rand_r(&seed) < cut_share * RAND_MAX;
    c->wire.cut = 0;
    c->wire.budget = cutting ? 1 + (rand_r(&seed) % 4 ? rand_r(&seed) % 4000 : rand_r(&seed) % 100000) : -1;
    c->wire.fd = -1;
    name_host(c, id);
    SSL_SESSION *session = NULL;
    if (resume) {
      pthread_mutex_lock(&session_locks[id % hosts]);
      session = sessions[id % hosts];
      if (session) SSL_SESSION_up_ref(session);
      pthread_mutex_unlock(&session_locks[id % hosts]);
    }
    int bad = connect_tls(c, resume ? &session : NULL);
    if (session) SSL_SESSION_free(session);
    for (long r = 0; r < per_connection && !bad && (r == 0 || now() < deadline); r++) {
      if (r) start = wait_for_turn();
      bad = turn(c, r == per_connection - 1, start);
    }
    if (cutting) atomic_fetch_add(&cuts, 1);
    else if (bad) told(start, c);
    else atomic_fetch_add(&done_connections, 1);
    hang_up(c, bad);
  }
  free(c);
  return NULL;
}

static void run(void *(*body)(void *)) {
  pthread_t *pool = calloc((size_t)threads, sizeof *pool);
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 512 * 1024);
  for (int i = 0; i < threads; i++) pthread_create(&pool[i], &small, body, (void *)(size_t)i);
  for (int i = 0; i < threads; i++) pthread_join(pool[i], NULL);
  free(pool);
}

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static void percentiles(const char *name, float *v, long n) {
  if (n > SAMPLES) n = SAMPLES;
  qsort(v, (size_t)n, sizeof *v, ascending);
  printf(",\"%s\":{\"count\":%ld,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f}", name, n, n ? v[(long)(.5 * (n - 1))] : 0,
         n ? v[(long)(.99 * (n - 1))] : 0, n ? v[n - 1] : 0);
}

static struct sockaddr_in address(char *text) {
  struct sockaddr_in a = {.sin_family = AF_INET};
  char *colon = strrchr(text, ':');
  if (colon) *colon = 0;
  if (!colon || inet_pton(AF_INET, text, &a.sin_addr) != 1) { fprintf(stderr, "IPV4:PORT wanted, not %s\n", text); exit(2); }
  a.sin_port = htons((unsigned short)atoi(colon + 1));
  return a;
}

enum { PROXY = 256, TARGET, DIRECT, CA, HOSTS, FIRST, PATTERN, CONNECTIONS, REQUESTS, STREAMS, THREADS, KIND, SIZE, RESUME,
       SECONDS, RATE, OPEN, OVER, CUT, STATUS, PATIENCE, GATE, NAMED, QUIET, TLS12, SOURCE, OPEN_SECONDS };

static const struct option options[] = {
    {"proxy", 1, 0, PROXY}, {"target", 1, 0, TARGET}, {"direct", 0, 0, DIRECT}, {"ca", 1, 0, CA}, {"hosts", 1, 0, HOSTS},
    {"first", 1, 0, FIRST}, {"pattern", 1, 0, PATTERN}, {"connections", 1, 0, CONNECTIONS}, {"requests", 1, 0, REQUESTS},
    {"streams", 1, 0, STREAMS}, {"threads", 1, 0, THREADS}, {"kind", 1, 0, KIND}, {"size", 1, 0, SIZE},
    {"resume", 0, 0, RESUME}, {"seconds", 1, 0, SECONDS}, {"rate", 1, 0, RATE}, {"open", 1, 0, OPEN}, {"over", 0, 0, OVER},
    {"cut", 1, 0, CUT}, {"status", 1, 0, STATUS}, {"patience", 1, 0, PATIENCE}, {"gate", 0, 0, GATE},
    {"named", 0, 0, NAMED}, {"quiet", 0, 0, QUIET}, {"tls12", 0, 0, TLS12},
    {"source", 1, 0, SOURCE}, {"open-seconds", 1, 0, OPEN_SECONDS}, {0, 0, 0, 0}};

int main(int argc, char **argv) {
  char *ca = NULL;
  int tls12 = 0;
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stderr, NULL, _IOLBF, 0);
  for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (o) {
      case PROXY: proxy = address(optarg); break;
      case TARGET: target = address(optarg); break;
      case DIRECT: direct = 1; break;
      case CA: ca = optarg; break;
      case HOSTS: hosts = atoi(optarg); break;
      case FIRST: first = atoi(optarg); break;
      case PATTERN: pattern = optarg; break;
      case CONNECTIONS: connections = atol(optarg); break;
      case REQUESTS: per_connection = atol(optarg); break;
      case STREAMS: streams = atoi(optarg); break;
      case THREADS: threads = atoi(optarg); break;
      case KIND: kind = optarg; break;
      case SIZE: file_size = atol(optarg); break;
      case RESUME: resume = 1; break;
      case SECONDS: seconds = atof(optarg); break;
      case RATE: rate = atof(optarg); break;
      case OPEN: opened = atol(optarg); break;
      case OVER: over = 1; break;
      case CUT: cut_share = atof(optarg); break;
      case STATUS: status_wanted = optarg; break;
      case PATIENCE: patience = atoi(optarg); break;
      case GATE: gate = 1; break;
      case NAMED: named = 1; break;
      case QUIET: quiet = 1; break;
      case TLS12: tls12 = 1; break;
      case SOURCE: source = address(optarg); break;
      case OPEN_SECONDS: open_until = now() + atof(optarg); break;
      default: return 2;
    }
  if (!target.sin_port || (!direct && !proxy.sin_port) || !ca || streams > MOST_STREAMS || hosts < 1 || threads < 1) {
    fprintf(stderr, "wanted: --target, --ca, and --proxy or --direct; at most %d streams\n", MOST_STREAMS);
    return 2;
  }
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  limited_bio_type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK;
  limited_bio = BIO_meth_new(limited_bio_type, "wire");
  BIO_meth_set_write(limited_bio, wire_write);
  BIO_meth_set_read(limited_bio, wire_read);
  BIO_meth_set_ctrl(limited_bio, wire_control);
  ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  if (tls12) SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
  if (SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1) { fprintf(stderr, "no CA in %s\n", ca); return 2; }
  if (streams) SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\2h2", 3);
  if (resume) {
    sessions = calloc((size_t)hosts, sizeof *sessions);
    session_locks = calloc((size_t)hosts, sizeof *session_locks);
    for (int i = 0; i < hosts; i++) pthread_mutex_init(&session_locks[i], NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
  }
  handshake_ms = malloc(SAMPLES * sizeof *handshake_ms);
  request_ms = malloc(SAMPLES * sizeof *request_ms);
  held = calloc((size_t)(opened ? opened : 1), sizeof *held);
  if (opened) run(open_some);
  long stand = 0;
  for (long i = 0; i < opened; i++) stand += held[i] != NULL;
  if (gate) {
    char line[16];
    printf("ready %ld\n", stand);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 3;
  }
  handshake_count = request_count = done_requests = bytes = 0;
  begun = now();
  deadline = begun + seconds;
  if (over ? stand > 0 : 1) run(over ? ask_over : work);
  double took = now() - begun;
  printf("{\"seconds\":%.3f,\"connections\":%ld,\"requests\":%ld,\"errors\":%ld,\"wrong\":%ld,\"cuts\":%ld,\"resumed\":%ld,\"open\":%ld,\"missed\":%ld,\"bytes\":%ld",
         took, (long)done_connections, (long)done_requests, (long)failed, (long)wrong, (long)cuts, (long)resumed, stand, (long)missed, (long)bytes);
  percentiles("handshake_ms", handshake_ms, handshake_count);
  percentiles("request_ms", request_ms, request_count);
  printf("}\n");
  fflush(stdout);
  if (gate) while (getchar() != EOF) { }
  return failed ? 1 : 0;
}
