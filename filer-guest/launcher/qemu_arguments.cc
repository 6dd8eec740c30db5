#include "filer-guest/launcher/qemu_arguments.h"

#include <fmt/format.h>

namespace filer::guest {
namespace {

constexpr unsigned kFirstDiskSlot = 0x10;
constexpr const char* kDefaultMac = "52:54:00:6e:6d:01";
constexpr const char* kUserAddress = "10.0.2.15/24";
constexpr const char* kUserGateway = "10.0.2.2";

using Arguments = std::vector<std::string>;

void Add(Arguments& arguments, const char* name, std::string value) {
  arguments.emplace_back(name);
  arguments.push_back(std::move(value));
}

void AddMachine(Arguments& arguments, const GuestOptions& options, const MachineFacts& facts) {
  const bool is_kvm = facts.accelerator == Accelerator::kKvm;
  // Interrupt remapping needs the split irqchip under KVM.
  Add(arguments, "-machine",
      fmt::format("q35,memory-backend=memory,hpet=off,vmport=off,usb=off{}",
                  is_kvm && options.has_viommu ? ",kernel-irqchip=split" : ""));
  Add(arguments, "-accel", is_kvm ? "kvm" : "tcg,thread=multi,tb-size=256");
  Add(arguments, "-cpu", is_kvm ? "host" : "max");
  Add(arguments, "-smp", std::to_string(options.cpus));
  Add(arguments, "-m", fmt::format("{}M", options.memory_mb));
  Add(arguments, "-object",
      fmt::format("memory-backend-memfd,id=memory,size={}M,share=on,prealloc={}{}",
                  options.memory_mb, options.prefault_memory ? "on" : "off",
                  facts.has_huge_pages ? ",hugetlb=on,hugetlbsize=2M" : ""));
  if (options.has_viommu) {
    Add(arguments, "-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on");
  }
}

void AddBoot(Arguments& arguments, const GuestOptions& options, const GuestPaths& paths) {
  Add(arguments, "-boot", "strict=on");
  Add(arguments, "-kernel", options.image_dir + "/kernel");
  Add(arguments, "-initrd", options.image_dir + "/initrd");
  Add(arguments, "-append", KernelArguments(options));
  Add(arguments, "-chardev",
      fmt::format("file,id=console,path={},append=on", Escaped(paths.console_log)));
  Add(arguments, "-serial", "chardev:console");
  Add(arguments, "-blockdev",
      fmt::format("driver=file,node-name=root,read-only=on,filename={}",
                  Escaped(options.image_dir + "/root.squashfs")));
  // A SCSI disk: the guest has no virtio_blk driver that could take the volumes.
  Add(arguments, "-device", "virtio-scsi-pci,id=scsi,bus=pcie.0,addr=02.0,num_queues=1");
  Add(arguments, "-device", "scsi-hd,bus=scsi.0,drive=root");
}

void AddChannels(Arguments& arguments, const GuestPaths& paths) {
  Add(arguments, "-chardev",
      fmt::format("socket,id=agent,path={},server=on,wait=off", Escaped(paths.agent_socket)));
  Add(arguments, "-device", "virtio-serial-pci,id=serial,bus=pcie.0,addr=03.0,max_ports=2");
  Add(arguments, "-device",
      "virtserialport,bus=serial.0,nr=1,chardev=agent,name=org.nearmetal.agent");
  Add(arguments, "-chardev",
      fmt::format("socket,id=qmp,path={},server=on,wait=off", Escaped(paths.qmp_socket)));
  Add(arguments, "-mon", "chardev=qmp,mode=control");
  Add(arguments, "-device", "virtio-rng-pci,bus=pcie.0,addr=05.0");
}

void AddNetwork(Arguments& arguments, const GuestNetwork& network) {
  const std::string mac = network.mac.empty() ? kDefaultMac : network.mac;
  if (network.kind == NetworkKind::kVf) {
    Add(arguments, "-device",
        fmt::format("vfio-pci,host={},bus=pcie.0,addr=04.0", Escaped(network.vf_address)));
    return;
  }
  std::string backend;
  if (network.kind == NetworkKind::kTap) {
    backend =
        fmt::format("tap,id=net,ifname={},script=no,downscript=no", Escaped(network.tap_device));
  } else {
    backend = "user,id=net,ipv6=off";
    for (const PortForward& forward : network.forwards) {
      backend += fmt::format(",hostfwd=tcp:{}:{}-:{}", Escaped(forward.host_address),
                             forward.host_port, forward.guest_port);
    }
  }
  Add(arguments, "-netdev", backend);
  Add(arguments, "-device",
      fmt::format("virtio-net-pci,netdev=net,mac={},romfile=,bus=pcie.0,addr=04.0", Escaped(mac)));
}

void AddDisks(Arguments& arguments, const GuestOptions& options) {
  for (std::size_t index = 0; index < options.disks.size(); ++index) {
    const GuestDisk& disk = options.disks[index];
    Add(arguments, "-chardev",
        fmt::format("socket,id=volume{},path={},reconnect-ms=200", index,
                    Escaped(disk.socket_path)));
    Add(arguments, "-device",
        fmt::format("vhost-user-blk-pci,id=disk{0},chardev=volume{0},bus=pcie.0,addr={1:x}.0,"
                    "num-queues={2},queue-size={3},disable-legacy=on{4}{5}",
                    index, kFirstDiskSlot + index, disk.queue_count, disk.queue_size,
                    options.has_viommu ? ",iommu_platform=on,ats=on" : "",
                    disk.offers_packed_rings ? ",packed=on" : ""));
  }
}

std::string NetworkWord(const GuestNetwork& network) {
  std::string address = network.guest_address;
  std::string gateway = network.guest_gateway;
  if (address.empty() && network.kind == NetworkKind::kUser) {
    address = kUserAddress;
    gateway = kUserGateway;
  }
  if (address.empty()) return "nearmetal.net=dhcp";
  return "nearmetal.net=" + address + (gateway.empty() ? "" : "," + gateway);
}

}  // namespace

std::string Escaped(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    escaped += c;
    if (c == ',') escaped += ',';
  }
  return escaped;
}

std::string DiskAddress(std::size_t index) {
  return fmt::format("0000:00:{:02x}.0", kFirstDiskSlot + index);
}

GuestPaths PathsIn(const std::string& run_dir) {
  return {run_dir + "/qmp.sock", run_dir + "/agent.sock", run_dir + "/console.log",
          run_dir + "/qemu.log", run_dir + "/guest.json"};
}

std::string KernelArguments(const GuestOptions& options) {
  // panic=-1 with -no-reboot: a kernel that dies ends QEMU at once, and the launcher sees it.
  std::string words = "console=ttyS0 quiet panic=-1 " + NetworkWord(options.network);
  // The console must not slow the boot, and nothing in the guest uses these.
  words += " random.trust_cpu=on tsc=reliable no_timer_check cryptomgr.notests lsm= audit=0";
  if (options.has_viommu) words += " intel_iommu=on iommu=pt";
  if (!options.kernel_arguments.empty()) words += " " + options.kernel_arguments;
  return words;
}

std::vector<std::string> QemuArguments(const GuestOptions& options, const MachineFacts& facts,
                                       const GuestPaths& paths) {
  Arguments arguments = {options.qemu_program, "-nodefaults", "-no-user-config", "-no-reboot"};
  Add(arguments, "-name", "nearmetal,debug-threads=on");
  Add(arguments, "-display", "none");
  // A VF is reset and mapped through files that the sandbox would deny later on.
  if (options.network.kind != NetworkKind::kVf) {
    Add(arguments, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  }
  AddMachine(arguments, options, facts);
  AddBoot(arguments, options, paths);
  AddChannels(arguments, paths);
  AddNetwork(arguments, options.network);
  AddDisks(arguments, options);
  return arguments;
}

}  // namespace filer::guest
