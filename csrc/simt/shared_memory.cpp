#include "shared_memory.h"

namespace simt {
namespace {

unsigned lane_of(unsigned thread) { return thread % warpSize; }
unsigned warp_of(unsigned thread) { return thread / warpSize; }

std::string others(const Users& users, unsigned thread) {
  if (users.many_warps) return "threads of several warps have ";
  const unsigned itself = users.warp == warp_of(thread) ? 1u << lane_of(thread) : 0;
  const unsigned one = users.warp * warpSize + static_cast<unsigned>(__builtin_ctz(users.lanes & ~itself));
  return name_of(one) + " has ";
}

}  // namespace

SharedMemory::SharedMemory(unsigned threads, size_t dynamic_bytes)
    : warps_((threads + warpSize - 1) / warpSize),
      dynamic_("dynamic_shared", 1, dynamic_bytes),
      limit_(dynamic_bytes > kUnasked ? kMaxBytes : kUnasked),
      bytes_(dynamic_bytes) {}

SharedArray& SharedMemory::array(const void* site, const char* name, size_t element, size_t count) {
  const auto [entry, is_new] = arrays_.try_emplace(site, name, element, count);
  if (is_new && (bytes_ += element * count) > limit_) fail("has " + std::to_string(bytes_) + " bytes of shared memory");
  return entry->second;
}

// Each lane of the mask learns what any of them had learnt of the others, and that all of theirs is over.
void SharedMemory::sync_warp(unsigned warp, unsigned mask) {
  auto& seen = warps_[warp].seen;
  ++time_;
  for (int of = 0; of < warpSize; ++of) {
    uint32_t latest = 0;
    for (int lane = 0; lane < warpSize; ++lane)
      if (mask >> lane & 1) latest = std::max(latest, seen[lane][of]);
    if (mask >> of & 1) latest = time_;
    for (int lane = 0; lane < warpSize; ++lane)
      if (mask >> lane & 1) seen[lane][of] = latest;
  }
}

// Whether all that the others among `users` did is over for the thread.
bool SharedMemory::are_over(const Users& users, unsigned thread) const {
  if (users.time < last_barrier_) return true;
  if (users.many_warps || users.warp != warp_of(thread)) return false;
  const uint32_t* seen = warps_[warp_of(thread)].seen[lane_of(thread)];
  for (unsigned left = users.lanes & ~(1u << lane_of(thread)); left != 0; left &= left - 1)
    if (users.time >= seen[__builtin_ctz(left)]) return false;
  return true;
}

void SharedMemory::join(Users& users, unsigned thread) const {
  if (are_over(users, thread)) {
    users = {time_, 1u << lane_of(thread), static_cast<uint16_t>(warp_of(thread)), false};
  } else if (users.warp == warp_of(thread)) {
    users.lanes |= 1u << lane_of(thread);
  } else {
    users.many_warps = true;
  }
}

unsigned char* SharedMemory::access(SharedArray& array, ptrdiff_t index, size_t size, Access kind, unsigned thread) {
  const auto complain = [&](const std::string& what) {
    const char* verb = kind == Access::kRead ? "reads " : kind == Access::kWrite ? "writes " : "updates ";
    fail(verb + array.name + "[" + std::to_string(index) + "], " + what);
  };
  const size_t parts = size == array.element ? 1 : size / array.element;  // of an element of dynamic shared memory
  const size_t elements = parts == 1 ? array.read.size() : array.read.size() / parts;
  if (static_cast<size_t>(index) >= elements) complain("but it has " + std::to_string(elements) + " elements");
  const auto wait_for = [&](const Users& users, const char* what) {
    if (!are_over(users, thread)) complain("which " + others(users, thread) + what + " with no barrier between");
  };
  const size_t begin = static_cast<size_t>(index) * parts;
  for (size_t i = begin; i < begin + parts; ++i) {
    Users &written = array.written[i], &updated = array.updated[i], &read = array.read[i];
    if (kind != Access::kWrite && written.time < block_began_) complain("which no thread has written");
    wait_for(written, "written");
    if (kind != Access::kAtomic) wait_for(updated, "updated");
    if (kind != Access::kRead) wait_for(read, "read");
    join(kind == Access::kRead ? read : kind == Access::kWrite ? written : updated, thread);
  }
  return array.data.data() + begin * array.element;
}

}  // namespace simt
