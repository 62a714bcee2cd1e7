-- Deployments that stand in the database; those of LiteLLM's file are known from rows only. Full read of a small table.
select left(m.model_id, 256) as model_id, left(m.model_name, 200) as name, {blocked} as blocked
from "LiteLLM_ProxyModelTable" m
