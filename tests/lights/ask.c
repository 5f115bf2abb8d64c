/* ask SOCKET LINE: sends a line to a Unix socket and prints the line that answers it. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int count, char **words)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int link = socket(AF_UNIX, SOCK_STREAM, 0);
	char answer[4096];
	FILE *stream;

	if (count != 3)
		return 2;
	strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
	if (connect(link, (struct sockaddr *)&address, sizeof address) || !(stream = fdopen(link, "r+"))) {
		perror(words[1]);
		return 1;
	}
	fprintf(stream, "%s\n", words[2]);
	fflush(stream);
	if (!fgets(answer, sizeof answer, stream))
		return 1;
	fputs(answer, stdout);
	return strstr(answer, "\"error\"") != NULL;
}
