"""Pictures and reports. Nothing here opens a window."""
