-- For wrk: sends the lines of a file as bodies, one after the other, each thread from its own place.
-- Headers come first in the file, one a line, and an empty line after them.
-- wrk ... -s cycle.lua URL -- BODIES

local threads = 0
local requests = {}
local place = 0

function setup(thread)
  thread:set("first", threads * 97)
  threads = threads + 1
end

function init(args)
  local headers = {}
  local in_headers = true
  for line in io.lines(args[1]) do
    if not in_headers then
      requests[#requests + 1] = wrk.format("POST", nil, headers, line)
    elseif line == "" then
      in_headers = false
    else
      local name, value = line:match("^([^:]+): (.*)$")
      headers[name] = value
    end
  end
  place = first
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency, _)
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "refused": %d, "broken": %d, '
      .. '"p50_ms": %f, "p95_ms": %f, "p99_ms": %f, "max_ms": %f}\n',
    summary.requests, summary.duration / 1e6, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3))
end
