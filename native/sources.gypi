{
  "variables": {
    "node_kvm_sources": [
      "native/addon.cc",
      "native/argument.cc",
      "native/bus_error.cc",
      "native/delivery.cc",
      "native/exit_filter.cc",
      "native/fd.cc",
      "native/guarded.cc",
      "native/host_file.cc",
      "native/ioctl.cc",
      "native/kick.cc",
      "native/loop_watch.cc",
      "native/mapping.cc",
      "native/region.cc",
      "native/thread.cc",
      "native/vcpu_object.cc",
      "native/vcpu_run.cc",
      "native/vcpu_thread.cc",
      "native/window.cc",
    ],
  },
}
