// SIGTERM and SIGINT as something to wait for.
#pragma once

namespace leap::cli {

/// Must be called before any thread is started: the signals are then delivered to wait_for_stop_signal() only.
void block_stop_signals();

/// Blocks until SIGTERM or SIGINT arrives; returns its number.
int wait_for_stop_signal();

}  // namespace leap::cli
