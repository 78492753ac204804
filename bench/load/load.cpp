// The load generator: many peers on raw sockets that only count what they get, WebSocket frames or, where the request asks
// for no upgrade, server-sent events of a chunked response. load.mjs is the same for machines without a compiler. Lines on stdin tell it what to do, fields separated by tabs; it answers on stdout:
//   open port count request trigger greeting ready → opened count
//     Sends the HTTP request (\r\n written as backslash sequences); after a frame that begins with `trigger` (empty: at
//     once) the frame `greeting`; a peer is open when a frame that begins with `ready` comes (empty: with the upgrade).
//     Of an event stream any `ready` stands for its first event, which does not count.
//   count target → reached messages bytes, as soon as so many messages came since the last answer
//   request depth total text → reached messages bytes; keeps `depth` requests of each peer in flight; # is their number
//   delays → delays µs…, ascending: how late the messages came since then whose data has a stamp `@µs@` (16 digits of the
//     monotonic clock); of what comes in two parts the stamp may be missed
//   take → taken messages, those since the last answer
//   usage → usage µs, the CPU time so far
// What it can't go on after it answers with `failed reason`.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr uint64_t kCountedBytes = 48;  // shorter frames are the protocol's own
constexpr size_t kStampDigits = 16;
constexpr int kOpening = 500;           // handshakes at once: what fits in the backlog of a listener

struct Peer {
  int fd = -1;
  enum { Connecting, Upgrading, Greeting, Ready } state = Connecting;
  std::string text;    // of the handshake
  bool greeted = false;
  uint64_t skip = 0;   // bytes of the payload, or of the chunk, still to come
  uint64_t size = 0;   // of the chunk that begins
  size_t event = 0;    // bytes of the event's lines so far
  size_t line = 0;     // of its last line
  uint8_t header[10];
  int headerBytes = 0;
  std::string unsent;
  size_t turn = 0;     // which request comes next
};

int epoll;
std::vector<Peer> peers;
std::string request, trigger, greeting, ready;
int port = 0;
bool upgrades = true;
size_t wanted = 0, started = 0, opened = 0, reported = 0;
uint64_t messages = 0, bytes = 0, target = 0;
std::vector<std::string> requests;
uint64_t toSend = 0;
std::vector<long> delays;
std::vector<char> buffer(1 << 20);

[[noreturn]] void fail(const std::string& why) {
  printf("failed\t%s\n", why.c_str());
  fflush(stdout);
  exit(1);
}

std::string masked(const std::string& text, uint32_t seed) {
  std::string frame(1, char(0x81));
  if (text.size() < 126) {
    frame += char(0x80 | text.size());
  } else {
    frame += char(0x80 | 126);
    frame += char(text.size() >> 8);
    frame += char(text.size() & 255);
  }
  uint8_t mask[4];
  for (int i = 0; i < 4; i++) mask[i] = uint8_t((seed = seed * 1664525u + 1013904223u) >> 24);
  frame.append(reinterpret_cast<char*>(mask), 4);
  for (size_t i = 0; i < text.size(); i++) frame += char(text[i] ^ mask[i & 3]);
  return frame;
}

void watch(Peer& peer, int operation, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = uint64_t(&peer - peers.data()) + 1;
  if (epoll_ctl(epoll, operation, peer.fd, &event) < 0) fail("epoll_ctl");
}

void send(Peer& peer, const char* data, size_t length) {
  if (peer.unsent.empty()) {
    ssize_t sent = ::send(peer.fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) fail("send");
    if (sent == ssize_t(length)) return;
    if (sent > 0) data += sent, length -= size_t(sent);
    watch(peer, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  }
  peer.unsent.append(data, length);
}

void startOne() {
  Peer& peer = peers[started++];
  peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (peer.fd < 0) fail("socket: raise the limit of open files");
  int on = 1;
  setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(peer.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 && errno != EINPROGRESS) {
    fail("connect");
  }
  watch(peer, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

void sendRequests(Peer& peer, uint64_t count) {
  static std::string joined;
  joined.clear();
  for (; count > 0 && toSend > 0; count--, toSend--) {
    joined += requests[peer.turn];
    peer.turn = (peer.turn + 1) % requests.size();
  }
  if (!joined.empty()) send(peer, joined.data(), joined.size());
}

void checkTarget() {
  if (target == 0 || messages < target) return;
  printf("reached\t%lu\t%lu\n", messages, bytes);
  fflush(stdout);
  messages = bytes = target = 0;
}

/** Reads the stamp of a payload, if it has one. */
void readStamp(const char* data, size_t length) {
  const char* end = data + length;
  const char* at = static_cast<const char*>(memchr(data, '@', length));
  if (at == nullptr || size_t(end - at) < kStampDigits + 2 || at[kStampDigits + 1] != '@') return;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  delays.push_back(now.tv_sec * 1000000L + now.tv_nsec / 1000 - atol(at + 1));
}

void count(Peer& peer, const char* data, size_t length) {
  uint64_t got = 0;
  bytes += length;
  while (length > 0) {
    if (peer.skip > 0) {
      size_t part = peer.skip < length ? size_t(peer.skip) : length;
      peer.skip -= part;
      data += part;
      length -= part;
      continue;
    }
    peer.header[peer.headerBytes++] = uint8_t(*data++);
    length--;
    if (peer.headerBytes < 2) continue;
    uint64_t size = peer.header[1] & 127;
    int more = size == 127 ? 8 : size == 126 ? 2 : 0;
    if (peer.headerBytes < 2 + more) continue;
    if (more > 0) size = 0;
    for (int i = 0; i < more; i++) size = size << 8 | peer.header[2 + i];
    int opcode = peer.header[0] & 15;
    if (opcode == 8) fail("the server closes a connection");
    if (opcode <= 2 && size >= kCountedBytes) {
      got++;
      readStamp(data, std::min(size_t(size), length));
    }
    peer.skip = size;
    peer.headerBytes = 0;
  }
  messages += got;
  if (got > 0 && toSend > 0) sendRequests(peer, got);
}

void becomeReady(Peer& peer) {
  peer.state = Peer::Ready;
  opened++;
  if (started < wanted) startOne();
  if (opened == wanted && reported != wanted) {
    reported = wanted;
    printf("opened\t%zu\n", opened);
    fflush(stdout);
  }
}

/** Part of an event stream, without the chunks' own bytes. */
uint64_t countEvents(Peer& peer, const char* data, size_t length) {
  uint64_t got = 0;
  const char* begin = data;
  for (const char* end = data + length; data < end;) {
    const char* newline = static_cast<const char*>(memchr(data, '\n', size_t(end - data)));
    peer.line += size_t((newline == nullptr ? end : newline) - data);
    if (newline == nullptr) break;
    data = newline + 1;
    if (peer.line > 0) {
      peer.event += peer.line;
    } else {
      if (peer.event >= kCountedBytes && peer.state == Peer::Greeting) {
        becomeReady(peer);
      } else if (peer.event >= kCountedBytes) {
        got++;
        readStamp(begin, size_t(data - begin));
      }
      peer.event = 0;
      begin = data;
    }
    peer.line = 0;
  }
  return got;
}

/** Server-sent events in a chunked response. */
void countStream(Peer& peer, const char* data, size_t length) {
  bytes += length;
  while (length > 0) {
    if (peer.skip > 0) {
      size_t part = peer.skip < length ? size_t(peer.skip) : length;
      messages += countEvents(peer, data, part);
      peer.skip -= part;
      data += part;
      length -= part;
      continue;
    }
    // The end of the last chunk, and the size of the next: `\r\n<hex>\r\n`.
    char byte = *data++;
    length--;
    if (byte == '\n' && peer.headerBytes > 0) {
      peer.skip = peer.size;
      if (peer.size == 0) fail("the server ends a stream");
      peer.size = 0;
      peer.headerBytes = 0;
    } else if (byte != '\r' && byte != '\n') {
      peer.size = peer.size << 4 | uint64_t(byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10);
      peer.headerBytes++;
    }
  }
}

/** Reads the answer to the upgrade, then whole frames until the one that makes the peer ready. */
void handshake(Peer& peer, const char* data, size_t length) {
  peer.text.append(data, length);
  if (peer.state == Peer::Upgrading) {
    size_t end = peer.text.find("\r\n\r\n");
    if (end == std::string::npos) return;
    const char* expected = upgrades ? "HTTP/1.1 101" : "HTTP/1.1 200";
    if (peer.text.compare(0, 12, expected) != 0) fail("refused: " + peer.text.substr(0, peer.text.find("\r\n")));
    peer.text.erase(0, end + 4);
    peer.state = Peer::Greeting;
    if (ready.empty()) {
      becomeReady(peer);
    } else if (upgrades && trigger.empty()) {
      peer.greeted = true;
      std::string frame = masked(greeting, 1);
      send(peer, frame.data(), frame.size());
    }
  }
  while (upgrades && peer.state == Peer::Greeting && peer.text.size() >= 2) {
    size_t size = uint8_t(peer.text[1]) & 127, offset = 2;
    if (size == 126) {
      if (peer.text.size() < 4) return;
      size = size_t(uint8_t(peer.text[2])) << 8 | uint8_t(peer.text[3]);
      offset = 4;
    }
    if (peer.text.size() < offset + size) return;
    std::string frame = peer.text.substr(offset, size);
    peer.text.erase(0, offset + size);
    if (!peer.greeted && frame.compare(0, trigger.size(), trigger) == 0) {
      peer.greeted = true;
      std::string out = masked(greeting, 1);
      send(peer, out.data(), out.size());
    } else if (peer.greeted && frame.compare(0, ready.size(), ready) == 0) {
      becomeReady(peer);
    } else if (frame.find("\"error\"") != std::string::npos) {
      fail("refused: " + frame);
    }
  }
  if (upgrades && peer.state != Peer::Ready) return;
  std::string rest;
  rest.swap(peer.text);
  peer.text.shrink_to_fit();
  if (!rest.empty()) upgrades ? count(peer, rest.data(), rest.size()) : countStream(peer, rest.data(), rest.size());
}

void serve(Peer& peer, uint32_t events) {
  if (peer.state == Peer::Connecting && (events & EPOLLOUT) != 0) {
    peer.state = Peer::Upgrading;
    watch(peer, EPOLL_CTL_MOD, EPOLLIN);
    send(peer, request.data(), request.size());
  } else if ((events & EPOLLOUT) != 0) {
    std::string rest;
    rest.swap(peer.unsent);
    watch(peer, EPOLL_CTL_MOD, EPOLLIN);
    send(peer, rest.data(), rest.size());
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  ssize_t length = recv(peer.fd, buffer.data(), buffer.size(), 0);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) fail("the server cut a connection");
  if (peer.state >= Peer::Greeting && !upgrades) countStream(peer, buffer.data(), size_t(length));
  else if (peer.state == Peer::Ready) count(peer, buffer.data(), size_t(length));
  else handshake(peer, buffer.data(), size_t(length));
  checkTarget();
}

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> fields;
  size_t start = 0;
  for (size_t at; (at = line.find('\t', start)) != std::string::npos; start = at + 1) {
    fields.push_back(line.substr(start, at - start));
  }
  fields.push_back(line.substr(start));
  return fields;
}

void replaceAll(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
}

void obey(const std::string& line) {
  std::vector<std::string> fields = split(line);
  const std::string& command = fields[0];
  if (command == "open" && fields.size() == 7) {
    port = atoi(fields[1].c_str());
    size_t more = size_t(atol(fields[2].c_str()));
    if (peers.capacity() < more) peers.reserve(more);
    if (wanted > 0) fail("opens once");
    wanted = more;
    peers.resize(wanted);
    request = fields[3];
    replaceAll(request, "\\r\\n", "\r\n");
    upgrades = request.find("\r\nUpgrade: ") != std::string::npos;
    trigger = fields[4];
    greeting = fields[5];
    ready = fields[6];
    for (int i = 0; i < kOpening && started < wanted; i++) startOne();
  } else if (command == "count" && fields.size() == 2) {
    target = strtoull(fields[1].c_str(), nullptr, 10);
    checkTarget();
  } else if (command == "request" && fields.size() == 4) {
    size_t depth = size_t(atol(fields[1].c_str()));
    target = toSend = strtoull(fields[2].c_str(), nullptr, 10);
    requests.clear();
    for (size_t i = 0; i < depth; i++) {
      std::string text = fields[3];
      replaceAll(text, "#", std::to_string(i + 1));
      requests.push_back(masked(text, uint32_t(i + 7)));
    }
    for (Peer& peer : peers) peer.turn = 0, sendRequests(peer, depth);
  } else if (command == "delays") {
    std::sort(delays.begin(), delays.end());
    printf("delays");
    for (long delay : delays) printf("\t%ld", delay);
    printf("\n");
    fflush(stdout);
    delays.clear();
  } else if (command == "take") {
    printf("taken\t%lu\n", messages);
    fflush(stdout);
    messages = bytes = 0;
  } else if (command == "usage") {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    printf("usage\t%ld\n", (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L + usage.ru_utime.tv_usec +
                               usage.ru_stime.tv_usec);
    fflush(stdout);
  } else {
    fail("unknown command: " + command);
  }
}

}  // namespace

int main() {
  epoll = epoll_create1(0);
  epoll_event input{};
  input.events = EPOLLIN;
  input.data.u64 = 0;
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
  std::string lines;
  std::vector<epoll_event> events(1024);
  for (;;) {
    int count = epoll_wait(epoll, events.data(), int(events.size()), -1);
    for (int i = 0; i < count; i++) {
      if (events[size_t(i)].data.u64 > 0) {
        serve(peers[events[size_t(i)].data.u64 - 1], events[size_t(i)].events);
        continue;
      }
      char text[65536];
      ssize_t length = read(0, text, sizeof text);
      if (length <= 0) return 0;
      lines.append(text, size_t(length));
      for (size_t end; (end = lines.find('\n')) != std::string::npos; lines.erase(0, end + 1)) obey(lines.substr(0, end));
    }
  }
}
