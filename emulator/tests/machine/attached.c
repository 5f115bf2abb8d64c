/* A process with the card's library: does one call per line of its standard input and prints
 * the call and what it answered. */
#include <stdio.h>
#include <string.h>

#include "../abi/card.h"

int main(void)
{
    char word[32];
    void *block = NULL;
    device_list_t list;
    device_properties_t seen;
    uint32_t code;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while (scanf("%31s", word) == 1) {
        memset(&seen, 0, sizeof seen);
        memset(&list, 0, sizeof list);
        code = 1;
        if (!strcmp(word, "init")) code = axclInit(NULL);
        if (!strcmp(word, "list")) code = axclrtGetDeviceList(&list);
        if (!strcmp(word, "set")) code = axclrtSetDevice(1);
        if (!strcmp(word, "malloc")) code = axclrtMalloc(&block, 4096, 0);
        if (!strcmp(word, "memset")) code = axclrtMemset(block, 0, 4096);
        if (!strcmp(word, "reset")) code = axclrtResetDevice(1);
        if (!strcmp(word, "reboot")) code = axclrtRebootDevice(1);
        if (!strcmp(word, "finalize")) code = axclFinalize();
        if (!strcmp(word, "properties")) {
            code = axclrtGetDeviceProperties(1, &seen);
            printf("seen %s %d %u\n", seen.sw_version, seen.temperature, seen.free_cmm);
        }
        printf("%s 0x%08x\n", word, code);
    }
    return 0;
}
