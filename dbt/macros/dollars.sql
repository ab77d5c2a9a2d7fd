{# A sum of money where there may be nothing to sum. #}
{% macro total(column, condition=none) -%}
    CAST(coalesce(sum({{ column }}){% if condition %} FILTER (WHERE {{ condition }}){% endif %}, 0) AS DECIMAL(38, 9))
{%- endmacro %}

{# A ratio of money to a count, to the nano-dollar. #}
{% macro per(amount, number) -%}
    CASE WHEN {{ number }} > 0 THEN CAST(CAST({{ amount }} AS DOUBLE) / {{ number }} AS DECIMAL(38, 9)) END
{%- endmacro %}
