SELECT
    budget, name, period, holder,
    limit_usd, spent_usd, in_flight_usd, maybe_usd, earmarked_usd,
    limit_usd - spent_usd - in_flight_usd - maybe_usd - earmarked_usd AS left_usd,
    CASE
        WHEN limit_usd > 0 THEN CAST(spent_usd + maybe_usd AS DOUBLE) / CAST(limit_usd AS DOUBLE)
        WHEN spent_usd + maybe_usd > 0 THEN 1.0
        ELSE 0.0
    END AS used_share,
    burns, of_tenant, of_collection, of_asset
FROM {{ source('raw', 'budgets') }}
