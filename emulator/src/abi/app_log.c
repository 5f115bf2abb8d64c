/* The variadic half of axclAppLog: formats the message and hands it to Rust. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

enum { RECORD = 1024 };

void axcl_emu_app_log(int32_t level, const char *func, const char *file, uint32_t line, const char *message);

void axcl_emu_app_log_variadic(int32_t level, const char *func, const char *file, uint32_t line,
                               const char *fmt, ...)
{
    char message[RECORD];
    va_list args;
    if (!fmt) {
        return;
    }
    va_start(args, fmt);
    int length = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (length >= 0) {
        axcl_emu_app_log(level, func, file, line, message);
    }
}
