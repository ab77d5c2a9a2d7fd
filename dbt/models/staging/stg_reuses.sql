{{ config(materialized='view') }}
SELECT facts.* EXCLUDE (origin), {{ origin_columns() }}
FROM {{ ref('stg_reuse_facts').include(database=false) }} AS facts
INNER JOIN {{ ref('stg_origins').include(database=false) }} AS origins ON origins.origin = facts.origin
