{{ config(materialized='view') }}
-- Named without the database, so that the view holds whatever the file is called.
SELECT facts.* EXCLUDE (origin), {{ origin_columns() }}
FROM {{ ref('stg_attempt_facts').include(database=false) }} AS facts
INNER JOIN {{ ref('stg_origins').include(database=false) }} AS origins ON origins.origin = facts.origin
