output "topic_arn" {
  description = "Where alarms go; subscribe a pager to it."
  value       = aws_sns_topic.alarms.arn
}

output "alarms" {
  description = "Names of the alarms."
  value       = keys(local.alarms)
}
