#!/bin/sh
# Installs the one system library that open3d's wheel needs, where that is allowed; says the command where it is not.
set -u
ldconfig -p 2>/dev/null | grep -q 'libusb-1\.0\.so\.0' && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    (apt-get install -y -qq libusb-1.0-0 || { apt-get update -qq && apt-get install -y -qq libusb-1.0-0; }) >/dev/null 2>&1 && exit 0
fi
echo "note: open3d (only for 'slamfeat run --ply') needs a system library: sudo apt-get install libusb-1.0-0" >&2
exit 0
