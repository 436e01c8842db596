#define _GNU_SOURCE
#include "uv_shims.h"
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

void raftoral_measure_idle_time(uv_loop_t *loop) { (void)uv_loop_configure(loop, UV_METRICS_IDLE_TIME); }

int raftoral_accept(int listener, struct sockaddr *address, socklen_t *byte_count) {
    return accept4(listener, address, byte_count, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

const int raftoral_open_direct = O_DIRECT;

static int release_pages(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size;
    (void)unused;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int place = 0; place < object->dlpi_phnum; place++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[place];
        // What the process may have written is not in the file.
        if (part->p_type != PT_LOAD || (part->p_flags & PF_W)) continue;
        uintptr_t start = (object->dlpi_addr + part->p_vaddr) & ~(page - 1);
        uintptr_t end = (object->dlpi_addr + part->p_vaddr + part->p_filesz + page - 1) & ~(page - 1);
        // A refusal costs nothing but the memory.
        (void)madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void raftoral_release_memory(void) {
    malloc_trim(0);
    dl_iterate_phdr(release_pages, NULL);
}

int raftoral_open_wake(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void raftoral_send_wake(int descriptor) {
    const uint64_t one = 1;
    // A full counter, EAGAIN, is readable too.
    while (write(descriptor, &one, sizeof one) < 0 && errno == EINTR) {}
}

void raftoral_take_wake(int descriptor) {
    uint64_t count;
    while (read(descriptor, &count, sizeof count) < 0 && errno == EINTR) {}
}
