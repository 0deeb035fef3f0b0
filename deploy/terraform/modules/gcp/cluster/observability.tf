# What the cloud sees better than the cluster. What the cluster sees itself is in its metrics (/metrics of the admin
# address) and traces (OTLP), for the Prometheus you have.
locals {
  alarms = merge(
    {
      nodes-busy = {
        description = "Processors of ${var.region}'s nodes are over 85 % for 5 minutes. Runbook: docs/deploy.md#nodes-are-busy."
        filter      = "metric.type=\"compute.googleapis.com/instance/cpu/utilization\" AND resource.type=\"gce_instance\" AND metadata.user_labels.cluster=\"${var.name}\" AND metadata.user_labels.region=\"${var.region}\" AND metadata.user_labels.role=\"node\""
        above       = 0.85
      }
    },
    {
      for name, zone in var.etcd_here : "etcd-${name}" => {
        description = "The machine of etcd member ${name} does not run. Nodes serve on. Runbook: docs/deploy.md#a-member-of-etcd-is-lost."
        filter      = "metric.type=\"compute.googleapis.com/instance/uptime\" AND resource.type=\"gce_instance\" AND resource.labels.instance_id=\"${google_compute_instance.member[name].instance_id}\""
        above       = null
      }
    },
  )
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.emails)

  display_name = each.value
  type         = "email"
  labels       = { email_address = each.value }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alarms

  display_name          = "${local.prefix}-${each.key}"
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  user_labels           = local.labels

  documentation {
    content = each.value.description
  }

  conditions {
    display_name = each.key

    dynamic "condition_threshold" {
      for_each = each.value.above == null ? [] : [each.value.above]

      content {
        filter          = each.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = condition_threshold.value
        duration        = "300s"

        aggregations {
          alignment_period   = "60s"
          per_series_aligner = "ALIGN_MEAN"
        }
      }
    }

    dynamic "condition_absent" {
      for_each = each.value.above == null ? [each.value.filter] : []

      content {
        filter   = condition_absent.value
        duration = "300s"

        aggregations {
          alignment_period   = "60s"
          per_series_aligner = "ALIGN_RATE"
        }
      }
    }
  }
}
