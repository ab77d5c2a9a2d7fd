{# No two rows have the same values in these columns. Of several, only rows whose hashes are equal are compared. #}
{% test unique_together(model, columns) %}
{% set hashed = columns[0] if columns | length == 1 else 'hash(' ~ columns | join(', ') ~ ')' %}
WITH suspected AS (
    SELECT {{ hashed }} AS hashed FROM {{ model }} GROUP BY ALL HAVING count(*) > 1
)

SELECT {{ columns | join(', ') }}, count(*) AS rows_found
FROM {{ model }}
WHERE {{ hashed }} IN (SELECT hashed FROM suspected)
GROUP BY ALL
HAVING count(*) > 1
{% endtest %}
