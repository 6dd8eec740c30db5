#include "host-bridge/target/notifier.h"

#include <liburing.h>

#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace filer::bridge {

struct Notifier::Queue {
  io_uring ring{};
  bool is_open = false;
  ~Queue() {
    if (is_open) io_uring_queue_exit(&ring);
  }
};

Notifier::Notifier() = default;
Notifier::Notifier(Notifier&& other) noexcept
    : queue_(std::move(other.queue_)), is_armed_(std::exchange(other.is_armed_, false)) {}
Notifier& Notifier::operator=(Notifier&& other) noexcept {
  std::swap(queue_, other.queue_);
  std::swap(is_armed_, other.is_armed_);
  return *this;
}
Notifier::~Notifier() = default;

Result<void> Notifier::Aim(const UniqueFd& event) {
  Disarm();
  if (queue_ == nullptr) {
    auto queue = std::make_unique<Queue>();
    const int failed = io_uring_queue_init(1, &queue->ring, 0);
    if (failed < 0) return Error::System(-failed, "io_uring for interrupts");
    queue->is_open = true;
    queue_ = std::move(queue);
  }
  // The kernel takes the eventfd's context, not the open file, and only if it is an eventfd.
  const int failed = io_uring_register_eventfd(&queue_->ring, event.get());
  if (failed == -EINVAL) return Error(Errc::kProtocol, "descriptor is no eventfd");
  if (failed < 0) return Error::System(-failed, "io_uring_register_eventfd");
  is_armed_ = true;
  return Ok();
}

void Notifier::Disarm() {
  if (!is_armed_) return;
  const int failed = io_uring_unregister_eventfd(&queue_->ring);
  if (failed < 0) queue_.reset();
  is_armed_ = false;
}

bool Notifier::Ring() {
  FILER_ASSERT(is_armed_);
  io_uring& ring = queue_->ring;
  // An entry that the kernel put off last time is still there and is submitted now.
  if (io_uring_sq_ready(&ring) == 0) io_uring_prep_nop(io_uring_get_sqe(&ring));
  if (io_uring_submit(&ring) != 1) return false;
  io_uring_cq_advance(&ring, io_uring_cq_ready(&ring));  // a no-op completes when submitted
  return true;
}

}  // namespace filer::bridge
