output "autoscaling_group" {
  description = "Name of the scaling group."
  value       = aws_autoscaling_group.node.name
}
