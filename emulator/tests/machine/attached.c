/* A process with the card's library: does one call per line of its standard input and prints
 * the call and what it answered. It does not outlive the test. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "../abi/card.h"
#include "../abi/model.h"

static model_t model;

static uint32_t load(void)
{
    char path[256];
    if (scanf("%255s", path) != 1 || axclrtEngineInit(0)) {
        return 1;
    }
    uint32_t code = (uint32_t)axclrtEngineLoadFromFile(path, &model.id);
    if (!code) {
        axclrtEngineGetIOInfo(model.id, &model.info);
        axclrtEngineCreateContext(model.id, &model.context);
        axclrtEngineCreateIO(model.info, &model.io);
        prepare(&model);
    }
    return code;
}

/* Prints what the tensor `output` holds, then the other outputs. */
static void print_outputs(void)
{
    printf("values");
    for (uint32_t turn = 0; turn < 2 * model.outputs; turn++) {
        uint32_t index = turn % model.outputs;
        if ((index == (uint32_t)model.output) != (turn < model.outputs)) {
            continue;
        }
        size_t size = axclrtEngineGetOutputSizeByIndex(model.info, 0, index);
        uint8_t *bytes = malloc(size);
        axclrtMemcpy(bytes, model.out[index], size, D2H);
        printf(" ");
        for (size_t i = 0; i < size; i++) {
            printf("%02x", bytes[i]);
        }
        free(bytes);
    }
    printf("\n");
}

int main(void)
{
    char word[32];
    void *block = NULL;
    device_list_t list;
    device_properties_t seen;
    uint32_t code;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
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
        if (!strcmp(word, "load")) code = load();
        if (!strcmp(word, "execute")) {
            code = axclrtEngineExecute(model.id, model.context, 0, model.io);
            print_outputs();
        }
        if (!strcmp(word, "properties")) {
            code = axclrtGetDeviceProperties(1, &seen);
            printf("seen %s %d %u\n", seen.sw_version, seen.temperature, seen.free_cmm);
        }
        printf("%s 0x%08x\n", word, code);
    }
    return 0;
}
