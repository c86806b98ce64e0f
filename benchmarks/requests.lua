-- wrk -s requests.lua URL -- FILE BODY PAUSE_MS
-- Each request has the next header line of FILE. If there is a pause, a connection waits 0.5 to 1.5 pauses
-- before each request. The last line of the output is JSON. Times are in milliseconds.

local requests, at, pause = {}, 0, 0

function init(arguments)
  math.randomseed(os.time())
  for line in io.lines(arguments[1]) do
    local name, value = line:match("^(.-): (.*)$")
    local headers = { ["Content-Type"] = "application/json", [name] = value }
    requests[#requests + 1] = wrk.format("POST", nil, headers, arguments[2])
  end
  at, pause = math.random(#requests), tonumber(arguments[3])
end

function delay()
  return math.floor(pause * (0.5 + math.random()))
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  io.write(string.format('\n{"requests": %d, "per_second": %f, "errors": %d, "p50": %f, "p99": %f}\n',
    summary.requests, summary.requests / summary.duration * 1e6, failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
