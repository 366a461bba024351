#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "CSharedMemory.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// A message must carry a byte at least, and a descriptor beside it.
union Control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

bool apus_send_descriptor(int socket, int descriptor) {
    char byte = 0;
    struct iovec bytes = {&byte, 1};
    union Control control;
    memset(&control, 0, sizeof(control));
    struct msghdr message = {0};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof(control.room);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
#if defined(MSG_NOSIGNAL)
    int flags = MSG_NOSIGNAL;
#else
    int flags = 0;
#endif
    while (1) {
        ssize_t sent = sendmsg(socket, &message, flags);
        if (sent < 0 && errno == EINTR) continue;
        return sent == 1;
    }
}

int apus_receive_descriptor(int socket) {
    char byte;
    struct iovec bytes = {&byte, 1};
    union Control control;
    struct msghdr message = {0};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof(control.room);
#if defined(MSG_CMSG_CLOEXEC)
    int flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
#else
    int flags = MSG_DONTWAIT;
#endif
    while (1) {
        ssize_t received = recvmsg(socket, &message, flags);
        if (received < 0 && errno == EINTR) continue;
        if (received != 1) return -1;
        break;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return -1;
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
    return descriptor;
}
