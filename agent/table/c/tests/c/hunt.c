/* The torn-read hunt from C: several threads read self-checking entries
 * through one handle while the test writes them: hunt TABLE NAMES READS.
 * Prints reads, torn, busy. */
#include "watchfire.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 2, NAMES = 64, NAME_BYTES = 32 };

static const watchfire_table *table;
static long names, reads_each;
static char name[NAMES][NAME_BYTES];
static size_t name_bytes[NAMES];

struct result {
    long torn, busy;
};

/* The same rule as in the tests' common part. */
static int is_whole(const watchfire_answer *answer, long index) {
    uint64_t n = answer->since_ms;
    return answer->verdict == n % 4 && answer->flags == n % 16 &&
           answer->reason == n % 251 &&
           answer->latency_us == (uint32_t)n * UINT32_C(2654435761) &&
           n % (uint64_t)names == (uint64_t)index;
}

static void *hunt(void *out) {
    struct result *result = out;
    uint64_t now_ns = watchfire_now_ns();
    for (long i = 0; i < reads_each; i++) {
        long index = i % names;
        watchfire_answer answer;
        int verdict = watchfire_lookup(table, name[index], name_bytes[index],
                                       now_ns, &answer);
        if (verdict == WATCHFIRE_BUSY)
            result->busy++;
        else if (!is_whole(&answer, index))
            result->torn++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    char error[256];
    watchfire_table *opened;
    if (argc != 4) return 2;
    if (watchfire_open(argv[1], &opened, error, sizeof error) != 0) {
        puts(error);
        return 1;
    }
    table = opened;
    names = atol(argv[2]);
    if (names > NAMES) return 2;
    for (long i = 0; i < names; i++)
        name_bytes[i] = (size_t)snprintf(name[i], NAME_BYTES, "origin-%ld", i);
    reads_each = atol(argv[3]) / THREADS;
    pthread_t threads[THREADS];
    struct result results[THREADS] = {{0, 0}};
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, hunt, &results[i]);
    struct result sum = {0, 0};
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum.torn += results[i].torn;
        sum.busy += results[i].busy;
    }
    printf("%ld %ld %ld\n", reads_each * THREADS, sum.torn, sum.busy);
    watchfire_close(opened);
    return 0;
}
