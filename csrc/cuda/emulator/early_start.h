// Programmatic dependent launch, at its worst: a kernel's blocks start while the kernel before it
// in the stream has written nothing yet (cuda/launch.h). So each is shown memory as it was, until
// all of its threads are in WaitForInputs(). Pages that kernels write are found by protecting them.
#pragma once

#include <cstddef>

namespace motet::emulator {

struct Stream;

void TrackMemory(char* memory, size_t size);  // of whole pages
void ForgetMemory(char* memory);

// Copies and fills of a stream, and waiting for it, end what a kernel may overtake.
void EndOvertaking();
void HostWrites(void* memory, size_t size);

void BeginKernel(const Stream* stream);
void EndKernel(const Stream* stream);
// For a block of this kernel: memory without the last kernel's writes, which must not change, and
// with them again.
void HideLastKernel();
void ShowLastKernel();

}  // namespace motet::emulator
