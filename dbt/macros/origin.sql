{# Who asked, and how: the columns that an origin stands for. #}
{% macro origin_columns() -%}
    tenant, collection, asset, partition, run_id, backfill, endpoint, model, kind, prompt, price
{%- endmacro %}
