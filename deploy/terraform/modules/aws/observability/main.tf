# What the cloud sees better than the cluster: machines that fail, and name servers without nodes behind them. What the
# cluster sees itself is in its metrics (/metrics of the admin address) and traces (OTLP), for the Prometheus you have.
locals {
  tags = merge(var.tags, { Cluster = var.name, Region = var.region, ManagedBy = "terraform" })

  alarms = merge(
    {
      no-name-server = {
        description = "No node of ${var.region} answers DNS behind its name servers. Runbook: docs/deploy.md#a-node-does-not-start."
        namespace   = "AWS/NetworkELB"
        metric      = "HealthyHostCount"
        statistic   = "Minimum"
        comparison  = "LessThanThreshold"
        threshold   = 1
        missing     = "breaching"
        dimensions  = { LoadBalancer = var.dns_load_balancer.load_balancer, TargetGroup = var.dns_load_balancer.target_group }
      }
      nodes-busy = {
        description = "Processors of ${var.region}'s nodes are over 85 % for 5 minutes. Runbook: docs/deploy.md#nodes-are-busy."
        namespace   = "AWS/EC2"
        metric      = "CPUUtilization"
        statistic   = "Average"
        comparison  = "GreaterThanThreshold"
        threshold   = 85
        missing     = "notBreaching"
        dimensions  = { AutoScalingGroupName = var.autoscaling_group }
      }
    },
    {
      for name, id in var.etcd_instances : "etcd-${name}" => {
        description = "The machine of etcd member ${name} fails its checks. Nodes serve on. Runbook: docs/deploy.md#a-member-of-etcd-is-lost."
        namespace   = "AWS/EC2"
        metric      = "StatusCheckFailed"
        statistic   = "Maximum"
        comparison  = "GreaterThanThreshold"
        threshold   = 0
        missing     = "breaching"
        dimensions  = { InstanceId = id }
      }
    },
  )
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-${var.region}-alarms"
  kms_master_key_id = "alias/aws/sns"
  tags              = local.tags
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.emails)

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${var.region}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = each.value.missing
  dimensions          = each.value.dimensions
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = local.tags
}
