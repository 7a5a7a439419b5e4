/* The cases of rule.txt through the header: rule TABLE CASES. Says where the
 * library differs; the number of cases if nowhere. */
#include "watchfire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16

static int usage_of(const char *word) {
    if (strcmp(word, "use") == 0) return WATCHFIRE_USE;
    if (strcmp(word, "last") == 0) return WATCHFIRE_TRY_LAST;
    return WATCHFIRE_DO_NOT_USE;
}

int main(int argc, char **argv) {
    char error[256], line[512];
    watchfire_table *table;
    if (argc != 3) return 2;
    if (watchfire_open(argv[1], &table, error, sizeof error) != 0) {
        puts(error);
        return 3;
    }
    FILE *cases = fopen(argv[2], "r");
    if (cases == NULL) return 4;
    int count = 0, wrong = 0;
    while (fgets(line, sizeof line, cases) != NULL) {
        char whole[512];
        strcpy(whole, line);
        char *words[MOST + 8];
        int n = 0;
        for (char *word = strtok(line, " \n"); word != NULL && n < MOST + 8;
             word = strtok(NULL, " \n"))
            words[n++] = word;
        const watchfire_table *asked =
            strcmp(words[1], "none") == 0 ? NULL : table;
        uint64_t now_ns =
            strcmp(words[1], "stale") == 0 ? UINT64_C(1) << 60 : 2000;
        int when = strcmp(words[2], "open") == 0 ? WATCHFIRE_OPEN
                                                 : WATCHFIRE_STATIC;
        int same = 1;
        if (strcmp(words[0], "one") == 0) {
            same = watchfire_use(asked, words[3], strlen(words[3]), now_ns,
                                 when, NULL) == usage_of(words[4]);
        } else {
            watchfire_rule rule = {(uint32_t)atoi(words[3]),
                                   (uint8_t)atoi(words[4]), (uint8_t)when, 0};
            watchfire_name names[MOST];
            int expected[MOST];
            uint8_t usages[MOST];
            size_t size = 0;
            for (int at = 6; at < n; at++, size++) {
                char *usage = strchr(words[at], '=');
                *usage = 0;
                names[size].bytes = words[at];
                names[size].length = strlen(words[at]);
                expected[size] = usage_of(usage + 1);
            }
            int panic =
                watchfire_pool(asked, names, size, now_ns, &rule, usages);
            same = panic == (strcmp(words[5], "panic") == 0);
            for (size_t at = 0; at < size; at++)
                same = same && usages[at] == expected[at];
        }
        count++;
        if (!same) {
            wrong++;
            printf("differs: %s", whole);
        }
    }
    printf("%d cases\n", count);
    fclose(cases);
    watchfire_close(table);
    return wrong != 0;
}
