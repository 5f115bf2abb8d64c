/*
 * Prints what a Raspberry Pi 4's pins do, from their registers: "MILLISECONDS LEVELS OUTPUTS" at each
 * change, with a bit for each of the pins 0 to 27 (in hex), and the time since boot.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

static const off_t BASE = 0xfe200000;
enum { FUNCTIONS = 0, LEVELS = 0x34 / 4, PINS = 28 };

int main(void)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	uint32_t before[2] = { ~0u, ~0u };
	int memory = open("/dev/mem", O_RDONLY | O_SYNC);
	const volatile uint32_t *registers = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memory, BASE);

	if (memory < 0 || registers == MAP_FAILED) {
		perror("pins: /dev/mem");
		return 1;
	}
	for (;;) {
		uint32_t levels = registers[LEVELS] & ((1u << PINS) - 1), outputs = 0;
		struct timespec now;

		/* Three bits a pin, ten pins a register; 1 is an output. */
		for (int pin = 0; pin < PINS; pin++)
			if ((registers[FUNCTIONS + pin / 10] >> pin % 10 * 3 & 7) == 1)
				outputs |= 1u << pin;
		if (levels != before[0] || outputs != before[1]) {
			clock_gettime(CLOCK_BOOTTIME, &now);
			printf("%lld %x %x\n", now.tv_sec * 1000LL + now.tv_nsec / 1000000, levels, outputs);
			fflush(stdout);
			before[0] = levels;
			before[1] = outputs;
		}
		nanosleep(&pause, NULL);
	}
}
