// ELF (Linux): the linker names the bounds of a section whose name is a C identifier; those of other images are found through the
// section headers of their files.

#if defined(__linux__)

#define _GNU_SOURCE
#include "CFunctionSection.h"
#include "Conformances.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char sectionName[] = "swift5_protocol_conformances";
static const char executablePath[] = "/proc/self/exe";

// Weak, so that a program without any conformance links; hidden, so that an image sees its own section and no other's.
extern const char __start_swift5_protocol_conformances[] __attribute__((weak, visibility("hidden")));
extern const char __stop_swift5_protocol_conformances[] __attribute__((weak, visibility("hidden")));

// MARK: - Files

/// A file mapped for reading, or `bytes == NULL`.
typedef struct {
    const uint8_t *bytes;
    size_t size;
} MappedFile;

static MappedFile mapFile(const char *path) {
    MappedFile file = {NULL, 0};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return file;
    struct stat status;
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > (off_t)sizeof(ElfW(Ehdr))) {
        void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (bytes != MAP_FAILED) {
            file.bytes = bytes;
            file.size = (size_t)status.st_size;
        }
    }
    close(descriptor);
    return file;
}

static void unmapFile(MappedFile file) {
    if (file.bytes) munmap((void *)file.bytes, file.size);
}

static int holds(MappedFile file, uint64_t offset, uint64_t size) {
    return offset <= file.size && size <= file.size - offset;
}

/// The file's ELF header, if it is an ELF file of this machine's word size.
static const ElfW(Ehdr) *elfHeader(MappedFile file) {
    if (!file.bytes || file.size < sizeof(ElfW(Ehdr))) return NULL;
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)file.bytes;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return NULL;
    if (header->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)) return NULL;
    return header;
}

/// Finds the section of conformances in a file; gives its address, relative to where the image is loaded, and size.
static int findSection(MappedFile file, uint64_t *address, uint64_t *size) {
    const ElfW(Ehdr) *header = elfHeader(file);
    if (!header || header->e_shentsize != sizeof(ElfW(Shdr)) || header->e_shoff % sizeof(void *) != 0) return 0;
    if (!holds(file, header->e_shoff, (uint64_t)header->e_shnum * sizeof(ElfW(Shdr)))) return 0;
    if (header->e_shstrndx >= header->e_shnum) return 0;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(file.bytes + header->e_shoff);
    const ElfW(Shdr) *names = &sections[header->e_shstrndx];
    if (!holds(file, names->sh_offset, names->sh_size)) return 0;
    for (unsigned index = 0; index < header->e_shnum; index++) {
        const ElfW(Shdr) *section = &sections[index];
        if (section->sh_name >= names->sh_size || names->sh_size - section->sh_name < sizeof(sectionName)) continue;
        if (memcmp(file.bytes + names->sh_offset + section->sh_name, sectionName, sizeof(sectionName)) != 0) continue;
        if (!(section->sh_flags & SHF_ALLOC)) continue;
        *address = section->sh_addr;
        *size = section->sh_size;
        return 1;
    }
    return 0;
}

int apus_find_function_section(const uint8_t *bytes, size_t size, uint64_t *address, uint64_t *length) {
    return findSection((MappedFile){bytes, size}, address, length);
}

// MARK: - Sections

/// Whether the image has these bytes in memory. The headers may not fit the image, if the file was replaced since it was loaded.
static int isLoaded(const struct dl_phdr_info *info, uint64_t address, uint64_t length) {
    for (int index = 0; index < info->dlpi_phnum; index++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[index];
        if (segment->p_type != PT_LOAD || address < segment->p_vaddr) continue;
        uint64_t offset = address - segment->p_vaddr;
        if (offset <= segment->p_memsz && length <= segment->p_memsz - offset) return 1;
    }
    return 0;
}

static int visitImage(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    const ConformanceSearch *search = context;
    // The executable has no name in this list.
    const char *path = info->dlpi_name && info->dlpi_name[0] ? info->dlpi_name : executablePath;
    MappedFile file = mapFile(path);
    uint64_t address, length;
    if (findSection(file, &address, &length) && isLoaded(info, address, length)) {
        const char *start = (const char *)(info->dlpi_addr + address);
        // The section of our own image was searched through its symbols.
        if (start != __start_swift5_protocol_conformances) searchConformances(start, start + length, search);
    }
    unmapFile(file);
    return 0;
}

void apus_visit_conforming_types(const void *protocol, apus_type_visitor visit, void *context) {
    ConformanceSearch search = {protocol, visit, context};
    if (__start_swift5_protocol_conformances) {
        searchConformances(__start_swift5_protocol_conformances, __stop_swift5_protocol_conformances, &search);
    }
    dl_iterate_phdr(visitImage, &search);
}

// MARK: - Build identity

typedef struct {
    uint8_t *buffer;
    size_t capacity;
    size_t count;
} BuildID;

/// Looks for the note that the linker leaves, in the first image, which is the executable.
static int readBuildID(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    BuildID *result = context;
    for (int index = 0; index < info->dlpi_phnum; index++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[index];
        if (segment->p_type != PT_NOTE) continue;
        const uint8_t *note = (const uint8_t *)(info->dlpi_addr + segment->p_vaddr);
        const uint8_t *end = note + segment->p_memsz;
        size_t alignment = segment->p_align == 8 ? 8 : 4;
        while ((size_t)(end - note) >= sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *header = (const ElfW(Nhdr) *)note;
            size_t nameSize = (header->n_namesz + alignment - 1) & ~(alignment - 1);
            size_t dataSize = (header->n_descsz + alignment - 1) & ~(alignment - 1);
            const uint8_t *name = note + sizeof(*header);
            if ((size_t)(end - name) < nameSize || (size_t)(end - name) - nameSize < header->n_descsz) break;
            if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
                result->count = header->n_descsz < result->capacity ? header->n_descsz : result->capacity;
                memcpy(result->buffer, name + nameSize, result->count);
                return 1;
            }
            if ((size_t)(end - name) - nameSize < dataSize) break;
            note = name + nameSize + dataSize;
        }
    }
    return 1;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/// Two lanes of multiply-and-fold over 32 bytes a round: several bytes a cycle, so a large executable takes milliseconds.
static void hashBytes(const uint8_t *bytes, size_t count, uint64_t state[2]) {
    static const uint64_t odd[4] = {0x9e3779b97f4a7c15, 0xd1b54a32d192ed03, 0x8cb92ba72f3d8dd7, 0xaef17502108ef2d9};
    state[0] ^= mix(count ^ odd[0], odd[1]);
    uint64_t word[4];
    for (; count >= sizeof(word); bytes += sizeof(word), count -= sizeof(word)) {
        memcpy(word, bytes, sizeof(word));
        state[0] = mix(word[0] ^ odd[0], word[1] ^ state[0]) + odd[2];
        state[1] = mix(word[2] ^ odd[1], word[3] ^ state[1]) + odd[3];
    }
    memset(word, 0, sizeof(word));
    memcpy(word, bytes, count);
    uint64_t first = mix(word[0] ^ odd[0], word[1] ^ state[0]) + odd[2];
    uint64_t second = mix(word[2] ^ odd[1], word[3] ^ state[1]) + odd[3];
    state[0] = mix(first ^ odd[2], second ^ odd[3]) + first;
    state[1] = mix(second ^ odd[0], first ^ odd[1]) + second;
}

size_t apus_hash_image(const uint8_t *bytes, size_t size, uint8_t *buffer, size_t capacity) {
    uint64_t state[2] = {0x243f6a8885a308d3, 0x13198a2e03707344};
    if (capacity < sizeof(state)) return 0;
    MappedFile file = {bytes, size};
    const ElfW(Ehdr) *header = elfHeader(file);
    size_t written = 0;
    if (header && header->e_phentsize == sizeof(ElfW(Phdr)) && header->e_phoff % sizeof(void *) == 0 &&
        holds(file, header->e_phoff, (uint64_t)header->e_phnum * sizeof(ElfW(Phdr)))) {
        const ElfW(Phdr) *segments = (const ElfW(Phdr) *)(file.bytes + header->e_phoff);
        for (unsigned index = 0; index < header->e_phnum; index++) {
            // The file's bytes, not those in memory, because relocation changes memory differently in each process. Debug
            // sections are in no segment that gets loaded, so a large debug build costs no more.
            if (segments[index].p_type != PT_LOAD || !holds(file, segments[index].p_offset, segments[index].p_filesz)) continue;
            hashBytes(file.bytes + segments[index].p_offset, segments[index].p_filesz, state);
            written = sizeof(state);
        }
    }
    if (written) memcpy(buffer, state, sizeof(state));
    return written;
}

size_t apus_hash_executable(const char *path, uint8_t *buffer, size_t capacity) {
    MappedFile file = mapFile(path);
    size_t written = apus_hash_image(file.bytes, file.size, buffer, capacity);
    unmapFile(file);
    return written;
}

size_t apus_copy_build_identity(uint8_t *buffer, size_t capacity) {
    BuildID result = {buffer, capacity, 0};
    dl_iterate_phdr(readBuildID, &result);
    return result.count > 0 ? result.count : apus_hash_executable(executablePath, buffer, capacity);
}

#endif
