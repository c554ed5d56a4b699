-- amounts: exact arithmetic over the whole of int64.
--
-- Lua's numbers are exact up to 2^53. Where every amount of a call is short enough, plain
-- numbers serve; otherwise each amount is a pair {high, low} = high * 10^10 + low with
-- 0 <= low < 10^10, and its metatable gives it the same operators. Scripts are written once.
--
-- arithmetic(longest, digits)  decides for this call: the longest text there is, and up to how
--                              many digits plain numbers stay exact
-- number(text)                 nil if text of digits and signs is not an integer of int64
-- text(value)                  back to decimal text
-- fits(value)                  whether int64 holds it (always true for short amounts)
local zero = 0

local number = tonumber

local function text(value) return string.format('%.0f', value) end

local function fits() return true end

local function wide_arithmetic()
  local BASE = 10000000000
  local wide = {}
  local function pair(high, low)
    if low < 0 then
      low = low + BASE
      high = high - 1
    elseif low >= BASE then
      low = low - BASE
      high = high + 1
    end
    return setmetatable({high, low}, wide)
  end
  wide.__add = function(a, b) return pair(a[1] + b[1], a[2] + b[2]) end
  wide.__sub = function(a, b) return pair(a[1] - b[1], a[2] - b[2]) end
  wide.__eq = function(a, b) return a[1] == b[1] and a[2] == b[2] end
  wide.__lt = function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end
  wide.__le = function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] <= b[2]) end

  local function read(digits)
    local negative = string.sub(digits, 1, 1) == '-'
    if negative then digits = string.sub(digits, 2) end
    local high = tonumber(string.sub(digits, 1, -11)) or 0
    local low = tonumber(string.sub(digits, -10))
    if negative then return pair(0 - high, 0 - low) end  -- not -0, which prints as such
    return pair(high, low)
  end
  text = function(value)
    local high, low, sign = value[1], value[2], ''
    if high < 0 then
      sign = '-'
      high = -high
      if low > 0 then
        low = BASE - low
        high = high - 1
      end
    end
    if high == 0 then return string.format('%s%.0f', sign, low) end
    return string.format('%s%.0f%010.0f', sign, high, low)
  end
  local highest, lowest = read('9223372036854775807'), read('-9223372036854775808')
  fits = function(value) return value <= highest and value >= lowest end
  number = function(digits)
    if #digits > 20 or not string.find(digits, '^%-?%d+$') then return nil end
    local value = read(digits)
    return fits(value) and value or nil
  end
  zero = read('0')
end

local function arithmetic(longest, digits)
  if longest > digits then wide_arithmetic() end
end

local function lesser(a, b)
  if b < a then return b end
  return a
end
