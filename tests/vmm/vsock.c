// SPDX-License-Identifier: GPL-2.0
/* The guest's end of a socket to the host, which sends back what it gets. */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_vm host = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = argc > 1 ? atoi(argv[1]) : 0,
	};
	static char sent[1000], received[1000];
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (void *)&host, sizeof(host)))
		return perror("vsock"), 1;
	for (int round = 0; round < 200; round++) {
		size_t got = 0;

		for (size_t i = 0; i < sizeof(sent); i++)
			sent[i] = round * 7 + i;
		if (write(fd, sent, sizeof(sent)) != sizeof(sent))
			return perror("write"), 1;
		while (got < sizeof(received)) {
			ssize_t n = read(fd, received + got, sizeof(received) - got);

			if (n <= 0)
				return perror("read"), 1;
			got += n;
		}
		if (memcmp(sent, received, sizeof(sent)))
			return fprintf(stderr, "other bytes in round %d\n", round), 1;
	}
	return 0;
}
