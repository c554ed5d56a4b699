-- caps: soft limits, as JSON.
--
-- caps_of(budget)  its text, '' for none; nil where it is not a JSON object. It is read here only
--   to be checked: written again by Lua, empty arrays would come back as objects.
-- ruled_caps(own, ruled)  what holds of a budget's own and those of the policy that governs: the
--   latter where it has any to tell, `{}` being that there are none.
local function caps_of(budget)
  local stored = budget.row[CAPS]
  if not stored or stored == '' or stored == 'null' then return '' end
  local readable, value = pcall(cjson.decode, stored)
  if not readable or type(value) ~= 'table' or not string.find(stored, '^%s*{') then return nil end
  return stored
end

local function ruled_caps(own, ruled)
  if ruled == '' then return own end
  return ruled == '{}' and '' or ruled
end
