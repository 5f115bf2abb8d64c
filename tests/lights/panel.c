/*
 * Plays a USB lamp with a red and a green light (a Luxafor, kernel module hid-led) through /dev/uhid,
 * and prints what the kernel really tells it: "MILLISECONDS GREEN RED" at each change, with brightness
 * from 0 to 255 and the time since boot.
 */
#include <fcntl.h>
#include <linux/input.h>
#include <linux/uhid.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Its reports: eight bytes out, nothing else that would matter. */
static const unsigned char DESCRIPTOR[] = {
	0x06, 0x00, 0xff, /* usage page: vendor's */
	0x09, 0x01,       /* usage 1 */
	0xa1, 0x01,       /* collection */
	0x15, 0x00,       /* from 0 */
	0x26, 0xff, 0x00, /* to 255 */
	0x75, 0x08,       /* of eight bits */
	0x95, 0x08,       /* eight of them */
	0x09, 0x01,
	0x91, 0x02,       /* output */
	0xc0,
};

int main(void)
{
	struct uhid_event event = { .type = UHID_CREATE2 };
	int green = 0, red = 0;
	int lamp = open("/dev/uhid", O_RDWR);

	strcpy((char *)event.u.create2.name, "lamp");
	memcpy(event.u.create2.rd_data, DESCRIPTOR, sizeof DESCRIPTOR);
	event.u.create2.rd_size = sizeof DESCRIPTOR;
	event.u.create2.bus = BUS_USB;
	event.u.create2.vendor = 0x04d8;
	event.u.create2.product = 0xf372;
	if (lamp < 0 || write(lamp, &event, sizeof event) != sizeof event) {
		perror("panel: /dev/uhid");
		return 1;
	}
	while (read(lamp, &event, sizeof event) > 0) {
		/* A report: its number 0, "set", which of the six lights, red, green, blue. */
		const unsigned char *report = event.u.output.data;
		struct timespec now;

		if (event.type != UHID_OUTPUT || event.u.output.size < 6 || report[2] != 1)
			continue;
		if (report[3] == red && report[4] == green)
			continue;
		red = report[3];
		green = report[4];
		clock_gettime(CLOCK_BOOTTIME, &now);
		printf("%lld %d %d\n", now.tv_sec * 1000LL + now.tv_nsec / 1000000, green, red);
		fflush(stdout);
	}
	perror("panel: read");
	return 1;
}
