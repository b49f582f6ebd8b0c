/* A disk in memory that loses power, as an nbdkit plugin (built and driven by disk.py).
 *
 * What is written is in the disk's cache until a flush, or a write with FUA, puts it on the platter. At the cut a random
 * subset of the cached 512-byte sectors reaches the platter, and every request fails with EIO, until the disk is told to
 * serve again: then it has what is on the platter. Like a real disk it may also put a sector on the platter at any time,
 * so what survives need not be the last that was written there.
 *
 * Parameters: size (bytes), commands, answers (two named pipes), seed, flush_us (the longest that a flush takes; the cut may
 * come in its midst, while nothing of it is on the platter). Commands, one per line, each answered by a line:
 *
 *     cut SEED PERCENT     cut TIME DIRTY SURVIVED    monotonic nanoseconds; sectors in the cache, and that survived
 *     serve                serve
 */

#define _GNU_SOURCE
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
#define SECTOR_BYTES 512
/* One overwrite of a cached sector in so many puts the older content on the platter first. */
#define SPILL_ONE_IN 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t size;
static const char *commands_path, *answers_path;
static uint64_t random_state = 1, flush_us;
/* What reads see, what would be there without power, and in which sectors they may differ. */
static uint8_t *cache, *platter;
static bool *cached;
static bool has_power = true;

/* SplitMix64: the state is a counter, so that any seed will do. */
static uint64_t draw(void)
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void put_on_platter(int64_t sector)
{
    memcpy(platter + sector * SECTOR_BYTES, cache + sector * SECTOR_BYTES, SECTOR_BYTES);
    cached[sector] = false;
}

static int64_t sectors_end(uint64_t offset, uint64_t count)
{
    return (offset + count + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

static void flush_range(int64_t from, int64_t end)
{
    for (int64_t sector = from; sector < end; sector++)
        if (cached[sector])
            put_on_platter(sector);
}

static void cut(uint64_t seed, unsigned percent, FILE *answers)
{
    uint64_t dirty = 0, survived = 0;
    struct timespec now;
    random_state = seed;
    for (int64_t sector = 0; sector < size / SECTOR_BYTES; sector++) {
        if (!cached[sector])
            continue;
        dirty++;
        if (draw() % 100 < percent) {
            survived++;
            put_on_platter(sector);
        } else {
            memcpy(cache + sector * SECTOR_BYTES, platter + sector * SECTOR_BYTES, SECTOR_BYTES);
            cached[sector] = false;
        }
    }
    has_power = false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fprintf(answers, "cut %" PRId64 " %" PRIu64 " %" PRIu64 "\n",
            (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, dirty, survived);
}

static void *obey(void *unused)
{
    /* For reading and writing: neither opening nor reading ends when the other side does. */
    FILE *commands = fdopen(open(commands_path, O_RDWR | O_CLOEXEC), "r");
    FILE *answers = fdopen(open(answers_path, O_RDWR | O_CLOEXEC), "w");
    char line[128];
    (void)unused;
    if (commands == NULL || answers == NULL) {
        nbdkit_error("power_cut: opening %s and %s: %m", commands_path, answers_path);
        exit(EXIT_FAILURE);
    }
    while (fgets(line, sizeof line, commands) != NULL) {
        uint64_t seed;
        unsigned percent;
        pthread_mutex_lock(&lock);
        if (sscanf(line, "cut %" SCNu64 " %u", &seed, &percent) == 2) {
            cut(seed, percent, answers);
        } else if (strcmp(line, "serve\n") == 0) {
            has_power = true;
            fputs("serve\n", answers);
        } else {
            fputs("not understood\n", answers);
        }
        pthread_mutex_unlock(&lock);
        fflush(answers);
    }
    return NULL;
}

static int configure(const char *key, const char *value)
{
    if (strcmp(key, "size") == 0)
        return (size = nbdkit_parse_size(value)) < 0 ? -1 : 0;
    if (strcmp(key, "commands") == 0)
        return (commands_path = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
    if (strcmp(key, "answers") == 0)
        return (answers_path = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
    if (strcmp(key, "seed") == 0)
        return nbdkit_parse_uint64_t("seed", value, &random_state);
    if (strcmp(key, "flush_us") == 0)
        return nbdkit_parse_uint64_t("flush_us", value, &flush_us);
    nbdkit_error("power_cut: unknown parameter %s", key);
    return -1;
}

static int configured(void)
{
    if (size <= 0 || size % SECTOR_BYTES != 0 || commands_path == NULL || answers_path == NULL) {
        nbdkit_error("power_cut: size (whole sectors), commands and answers are needed");
        return -1;
    }
    return 0;
}

static int make_disk(void)
{
    cache = calloc(1, size);
    platter = calloc(1, size);
    cached = calloc(size / SECTOR_BYTES, sizeof *cached);
    if (cache == NULL || platter == NULL || cached == NULL) {
        nbdkit_error("power_cut: no memory for two times %" PRId64 " bytes", size);
        return -1;
    }
    return 0;
}

static int start_obeying(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, obey, NULL);
    if (error != 0) {
        nbdkit_error("power_cut: making a thread: %s", strerror(error));
        return -1;
    }
    return 0;
}

static void *open_disk(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t get_size(void *handle)
{
    (void)handle;
    return size;
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int fua_native(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

/* With the lock held, if there is power; else the error is set. */
static bool begin(void)
{
    pthread_mutex_lock(&lock);
    if (has_power)
        return true;
    pthread_mutex_unlock(&lock);
    nbdkit_set_error(EIO);
    return false;
}

static bool take_time_and_begin(void)
{
    if (!begin())
        return false;
    useconds_t pause = flush_us == 0 ? 0 : draw() % flush_us;
    pthread_mutex_unlock(&lock);
    usleep(pause);
    return begin();
}

static int read_disk(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    if (!begin())
        return -1;
    memcpy(buffer, cache + offset, count);
    pthread_mutex_unlock(&lock);
    return 0;
}

static int write_disk(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    int64_t from = offset / SECTOR_BYTES, end = sectors_end(offset, count);
    (void)handle;
    if (!begin())
        return -1;
    for (int64_t sector = from; sector < end; sector++) {
        if (cached[sector] && draw() % SPILL_ONE_IN == 0)
            put_on_platter(sector);
        cached[sector] = true;
    }
    memcpy(cache + offset, buffer, count);
    pthread_mutex_unlock(&lock);
    if (!(flags & NBDKIT_FLAG_FUA))
        return 0;
    if (!take_time_and_begin())
        return -1;
    flush_range(from, end);
    pthread_mutex_unlock(&lock);
    return 0;
}

static int flush_disk(void *handle, uint32_t flags)
{
    (void)handle, (void)flags;
    if (!take_time_and_begin())
        return -1;
    flush_range(0, size / SECTOR_BYTES);
    pthread_mutex_unlock(&lock);
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "power-cut",
    .description = "a disk in memory that can lose power",
    .config = configure,
    .config_complete = configured,
    .get_ready = make_disk,
    .after_fork = start_obeying,
    .open = open_disk,
    .get_size = get_size,
    .can_flush = yes,
    .can_fua = fua_native,
    .can_multi_conn = yes,
    .pread = read_disk,
    .pwrite = write_disk,
    .flush = flush_disk,
};

NBDKIT_REGISTER_PLUGIN(plugin)
