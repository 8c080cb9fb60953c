-- wrk's script: posts the lines of the file BODIES in turn, with the header lines of the file HEADERS, and prints one
-- JSON object at the end. BODIES and HEADERS are environment variables; where DECISIONS is one too, the ids of all
-- decisions that are answered go to that file.
local bodies, number = {}, 0

function init()
  for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
  local headers = {["Content-Type"] = "application/json"}
  for line in io.lines(os.getenv("HEADERS")) do
    local name, value = line:match("^([^:]+): (.*)$")
    headers[name] = value
  end
  local address = wrk.path
  for place, body in ipairs(bodies) do bodies[place] = wrk.format("POST", address, headers, body) end
end

function request()
  number = number % #bodies + 1
  return bodies[number]
end

local decisions = os.getenv("DECISIONS")
if decisions then
  local file = io.open(decisions, "w")
  function response(status, headers, body)
    if status == 200 then
      file:write(body:match('"decision":"(%x+)"'), "\n")
      file:flush()
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.3f, "p50": %.3f, "p99": %.3f, "longest": %.3f, "failed": %d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
