/* A wide-area link between two TUN devices: rate, delay, queue and loss, packet by packet, one line a direction.
 *
 *   wan_link DEVICE_A DEVICE_B RATE_BIT_PER_S DELAY_US QUEUE_BYTES LOSS_PER_MILLION
 *
 * It makes the devices, prints "ready", and carries packets until its standard input ends. Without loss, packets
 * of up to 64 KiB travel unsegmented (the kernel's segmentation offload), each counted with the headers of the
 * segments that it stands for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16384
#define MOST (65536 + 64)
#define FRAME_BYTES 38   /* Ethernet header, checksum, preamble and gap of each segment */
#define HEADER_BYTES 52  /* IP and TCP with time stamps: what a further segment repeats */

struct packet { int64_t at_ns; int size; unsigned char *bytes; };
struct line {
  int from, to;
  struct packet ring[SLOTS];
  unsigned head, tail;
  int64_t queued_bytes, free_at_ns;
  pthread_mutex_t guard;
  pthread_cond_t filled;
};

static double rate_bit_per_s;
static int64_t delay_ns, queue_bytes;
static long loss_per_million;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t on_the_wire(const unsigned char *bytes, int size) {
  const struct virtio_net_hdr *header = (const void *)bytes;
  int payload = size - (int)sizeof *header, segments = 1;
  if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE && header->gso_size)
    segments = (payload - header->hdr_len + header->gso_size - 1) / header->gso_size;
  if (segments < 1) segments = 1;
  return payload + (int64_t)segments * FRAME_BYTES + (int64_t)(segments - 1) * HEADER_BYTES;
}

static void *take(void *argument) {
  struct line *line = argument;
  unsigned int seed = (unsigned int)now_ns() ^ (unsigned int)(uintptr_t)line;
  unsigned char *bytes = malloc(MOST);
  for (;;) {
    int size = read(line->from, bytes, MOST);
    if (size <= 0) { if (size < 0 && errno == EINTR) continue; return NULL; }
    if (loss_per_million && rand_r(&seed) % 1000000 < loss_per_million) continue;
    int64_t wire = on_the_wire(bytes, size), now = now_ns();
    pthread_mutex_lock(&line->guard);
    int64_t start = line->free_at_ns > now ? line->free_at_ns : now;
    int64_t waiting = (int64_t)((start - now) * 1e-9 * rate_bit_per_s / 8);
    if (waiting + wire > queue_bytes || line->tail - line->head >= SLOTS) {
      pthread_mutex_unlock(&line->guard);
      continue; /* the queue in front of the link is full: the packet is lost */
    }
    line->free_at_ns = start + (int64_t)(wire * 8e9 / rate_bit_per_s);
    struct packet *slot = &line->ring[line->tail % SLOTS];
    slot->at_ns = line->free_at_ns + delay_ns;
    slot->size = size;
    slot->bytes = bytes;
    line->tail++;
    pthread_cond_signal(&line->filled);
    pthread_mutex_unlock(&line->guard);
    bytes = malloc(MOST);
  }
}

static void *give(void *argument) {
  struct line *line = argument;
  for (;;) {
    pthread_mutex_lock(&line->guard);
    while (line->head == line->tail) pthread_cond_wait(&line->filled, &line->guard);
    struct packet packet = line->ring[line->head % SLOTS];
    pthread_mutex_unlock(&line->guard);
    struct timespec at = {packet.at_ns / 1000000000LL, packet.at_ns % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
    if (write(line->to, packet.bytes, packet.size) < 0 && errno == EBADF) return NULL;
    free(packet.bytes);
    pthread_mutex_lock(&line->guard);
    line->head++;
    pthread_mutex_unlock(&line->guard);
  }
}

static int device(const char *name) {
  struct ifreq request;
  int header = sizeof(struct virtio_net_hdr), fd = open("/dev/net/tun", O_RDWR);
  if (fd < 0) { perror("/dev/net/tun"); exit(1); }
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, TUNSETIFF, &request) < 0) { perror("TUNSETIFF"); exit(1); }
  if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) { perror("TUNSETVNETHDRSZ"); exit(1); }
  /* A lost packet has to be one segment, so there is no offload where packets are lost. */
  if (ioctl(fd, TUNSETOFFLOAD, loss_per_million ? 0 : TUN_F_CSUM | TUN_F_TSO4) < 0) { perror("TUNSETOFFLOAD"); exit(1); }
  return fd;
}

int main(int count, char **arguments) {
  static struct line there, back;
  pthread_t thread;
  if (count != 7) { fprintf(stderr, "usage: see the first lines of wan_link.c\n"); return 2; }
  rate_bit_per_s = atof(arguments[3]);
  delay_ns = atoll(arguments[4]) * 1000;
  queue_bytes = atoll(arguments[5]);
  loss_per_million = atol(arguments[6]);
  int a = device(arguments[1]), b = device(arguments[2]);
  struct line *lines[2] = {&there, &back};
  there.from = back.to = a;
  there.to = back.from = b;
  for (int i = 0; i < 2; i++) {
    pthread_mutex_init(&lines[i]->guard, NULL);
    pthread_cond_init(&lines[i]->filled, NULL);
    pthread_create(&thread, NULL, take, lines[i]);
    pthread_create(&thread, NULL, give, lines[i]);
  }
  puts("ready");
  fflush(stdout);
  while (getchar() != EOF) {}
  return 0;
}
