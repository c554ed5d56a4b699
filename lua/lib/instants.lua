-- instants: times as JSON records have them.
--
-- instant(ms)  epoch ms (from 1970 on) as ISO 8601 in UTC: `2026-04-10T12:00:00.123Z`
local function instant(at)
  local lengths = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
  local days, year, month = math.floor(at / 86400000), 1970, 1
  local function leap() return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) end
  while days >= (leap() and 366 or 365) do
    days = days - (leap() and 366 or 365)
    year = year + 1
  end
  if leap() then lengths[2] = 29 end
  while days >= lengths[month] do
    days = days - lengths[month]
    month = month + 1
  end
  local rest = at % 86400000
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, days + 1,
    math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60,
    rest % 1000)
end
