#define _GNU_SOURCE
#include "uv_shims.h"
#include <sys/socket.h>

int raftoral_accept(int listener, struct sockaddr *address, socklen_t *byte_count) {
    return accept4(listener, address, byte_count, SOCK_NONBLOCK | SOCK_CLOEXEC);
}
