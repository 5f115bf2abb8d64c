/* Card memory, streams and events. */
static void check_crash(void *dev)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        *(volatile char *)dev = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a card address crashes the host");
}

static void check_memory(void)
{
    unsigned char host[64], back[64];
    void *a = NULL, *b = NULL, *big = NULL;
    for (int i = 0; i < 64; i++) {
        host[i] = (unsigned char)i;
    }
    uint32_t before = free_cmm();
    answers(axclrtSetDevice(1), 0, "bind the device again after reading its properties");
    answers(axclrtMalloc(&a, 64, 0), 0, "malloc");
    answers(axclrtMalloc(&b, 5000, 0), 0, "malloc another");
    check((uintptr_t)a == 0x149200000 && (uintptr_t)b == 0x149201000, "first fit behind 18 MiB, by pages");
    check_crash(a);
    answers(axclrtMemcpy(back, a, 4, D2H), 0, "read fresh memory");
    check(back[0] == 0xff && back[3] == 0xff, "it is full of NaN");
    answers(axclrtMemcpy(a, host, 64, H2D), 0, "host to card");
    answers(axclrtMemcpy(back, (char *)a + 8, 56, D2H), 0, "card to host from an offset");
    check(memcmp(back, host + 8, 56) == 0, "what was written");
    answers(axclrtMemcpy((char *)b + 100, a, 64, D2D), 0, "card to card to an offset");
    answers(axclrtMemcmp(a, (char *)b + 100, 64), 0, "both are equal");
    answers(axclrtMemset((char *)b + 101, 9, 1), 0, "set one byte at an offset");
    check(axclrtMemcmp(a, (char *)b + 100, 64) < 0, "the first is less");
    check(axclrtMemcmp((char *)b + 100, a, 64) > 0, "the second is greater");
    answers(axclrtMemcpy(back, host, 64, H2H), 0, "host to host");
    answers(axclrtMemcpy(a, host, 64, 4), 0x80300504, "physical host addresses are unsupported");
    answers(axclrtMemcpy((char *)a + 32, host, 33, H2D), 0x8030050c, "beyond the end");
    answers(axclrtMemset((char *)a + 64, 0, 1), 0x8030050c, "past the end");
    answers(axclrtMemcpy(host, back, 16, H2D), 0x8030050c, "a host address as card address");
    answers(axclrtMemcpy(NULL, host, 1, H2D), 0x80300502, "a null pointer");
    answers(axclrtFree((char *)b + 8), 0x80300581, "free needs the exact base");
    answers(axclrtMemFlush((char *)b + 8, 8), 0x80300581, "so does flush");
    answers(axclrtMemFlush(b, 8), 0, "flush");
    answers(axclrtMalloc(&big, (size_t)7040 << 20, 0), 0x8030050c, "more than there is");
    answers(axclrtFree(a), 0, "free");
    answers(axclrtFree(a), 0x80300581, "free twice");
    answers(axclrtFree(b), 0, "free the other");
    check(free_cmm() == before, "all of it is free again");
    answers(axclrtSetDevice(1), 0, "bind the device again");
    answers(axclrtResetDevice(1), 0, "reset is counted");
    answers(axclrtResetDevice(1), 0, "reset is counted again");
    answers(axclrtSetDevice(1), 0, "bind once more");
    answers(axclrtResetDevice(1), 0, "and reset, which takes the binding");
    int32_t device = 0;
    answers(axclrtGetDevice(&device), 0x80300185, "this thread is bound to no device");
    answers(axclrtMallocHost(&big, 4096), 0, "host memory");
    memset(big, 1, 4096);
    answers(axclrtFreeHost(big), 0, "free host memory");
}

static void check_streams(void)
{
    handle_t first = NULL, second = NULL, event = NULL, standard = NULL;
    unsigned char host[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8] = {0};
    void *a = NULL, *b = NULL;
    answers(axclrtCreateStream(&first), 0, "create a stream");
    answers(axclrtCreateStream(&second), 0, "create another");
    answers(axclrtCreateEvent(&event), 0, "create an event");
    axclrtMalloc(&a, 8, 0);
    axclrtMalloc(&b, 8, 0);
    answers(axclrtMemcpyAsync(a, host, 8, H2D, first), 0, "queue host to card");
    answers(axclrtMemsetAsync(a, 0, 4, first), 0, "queue a set");
    answers(axclrtRecordEvent(event, first), 0, "queue an event");
    answers(axclrtStreamWaitEvent(second, event), 0x80300185, "waiting for it needs a device");
    axclrtSetDevice(1);
    answers(axclrtStreamWaitEvent(second, event), 0, "the other stream waits for it");
    answers(axclrtMemcpyAsync(b, a, 8, D2D, second), 0, "queue card to card");
    answers(axclrtMemcpyAsync(back, b, 8, D2H, second), 0, "queue card to host");
    answers(axclrtMemcpyAsync(back, host, 8, H2H, second), 0x80300503, "nothing to queue from host to host");
    answers(axclrtSynchronizeStream(second), 0, "synchronise");
    check(memcmp(back, "\0\0\0\0\5\6\7\10", 8) == 0, "everything happened in order");
    answers(axclrtGetDefaultStream(default_context, &standard), 0, "find the default stream");
    answers(axclrtSynchronizeStream(standard), 0x80300303, "it cannot be synchronised");
    answers(axclrtDestroyStream(standard), 0x80300382, "nor destroyed");
    answers(axclrtSynchronizeDevice(), 0, "synchronise the device");
    answers(axclrtSynchronizeStreamWithTimeout(first, 1000), 0, "synchronise with a timeout");
    answers(axclrtDestroyEvent(event), 0, "destroy the event");
    answers(axclrtDestroyStream(first), 0, "destroy the stream");
    answers(axclrtSynchronizeStream(first), 0x80300303, "it is gone");
    answers(axclrtDestroyStream(second), 0, "destroy the other");
    axclrtFree(a);
    axclrtFree(b);
}
