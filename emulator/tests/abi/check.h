/* Checks and what the parts of the walk share. */
static int checks, failures;

static void check(int good, const char *text)
{
    checks++;
    failures += !good;
    printf("%s %d - %s\n", good ? "ok" : "not ok", checks, text);
    fflush(stdout);
}

static void answers(err_t got, uint32_t want, const char *text)
{
    check((uint32_t)got == want, text);
    if ((uint32_t)got != want) {
        printf("# %#x instead of %#x\n", (uint32_t)got, want);
    }
}

static uint32_t free_cmm(void)
{
    device_properties_t properties = {{0}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}};
    axclrtGetDeviceProperties(1, &properties);
    return properties.free_cmm;
}

static handle_t default_context;
