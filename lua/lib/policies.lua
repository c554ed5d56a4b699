-- policies: which overage policy applies.
--
-- overage_policy(asked, budget, default)  the request's own or the governing policy's, else the
--   deepest budget's, else the tenant's default, else that of all (lib/defaults); what is none
--   counts as unset.
local function overage_policy(asked, budget, default)
  if asked ~= '' then return asked end
  local known = {REJECT = true, ALLOW_IF_AVAILABLE = true, ALLOW_WITH_OVERDRAFT = true}
  local own = budget.row[POLICY]
  if own and known[own] then return own end
  if known[default] then return default end
  return DEFAULT_OVERAGE_POLICY
end
