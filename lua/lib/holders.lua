-- holders: the budgets that hold a reservation's estimate.
--
-- given(stored)  an optional field; nil where it is absent or, as other servers write it, empty.
-- whole(stored)  a time or a count, as a number; nil for what is none, or has over 15 digits.
-- holding_scopes(affected, budgeted)  the scopes as an array, from the stored JSON arrays;
--   `budgeted` is left out of a record where it equals `affected`. nil and a reason,
--   MISSING_SCOPES or MALFORMED_SCOPES, where they cannot be understood.
-- made_after(budget, reserved_at)  whether a budget was made anew since the reservation.
-- held_budgets(prefix, scopes, unit, tenant, reserved_at)  those that still exist; a budget
--   deleted since is passed over, never brought back as a half-filled record.
local function given(stored) return stored ~= '' and stored or nil end

local function whole(stored)
  return stored and #stored <= 15 and string.find(stored, '^%d+$') and tonumber(stored) or nil
end

local function holding_scopes(affected, budgeted)
  -- An array that was written by Lua has its slashes escaped.
  local stored = given(budgeted) or affected or ''
  if string.find(stored, '\\', 1, true) then stored = string.gsub(stored, '\\/', '/') end
  if stored == '' or stored == '[]' then return nil, 'MISSING_SCOPES' end
  -- With a dot for each scope, only the signs of the array are left.
  local signs, count = string.gsub(stored, '%s*"[%w_.:/-]+"%s*', '.')
  if signs ~= '[' .. string.rep('.,', count - 1) .. '.]' then return nil, 'MALFORMED_SCOPES' end
  local scopes = {}
  for scope in string.gmatch(stored, '"([^"]+)"') do scopes[#scopes + 1] = scope end
  return scopes
end

local function made_after(budget, reserved_at)
  local made, reserved = tonumber(budget.row[CREATED_AT] or ''), tonumber(reserved_at or '')
  return made ~= nil and reserved ~= nil and made > reserved
end

local function held_budgets(prefix, scopes, unit, tenant, reserved_at)
  local budgets = {}
  for place, scope in ipairs(scopes) do
    local budget = read_budget(prefix .. scope .. ':' .. unit, scope, tenant, place, true)
    if budget then
      budget.anew = made_after(budget, reserved_at)
      budgets[#budgets + 1] = budget
    end
  end
  return budgets
end
