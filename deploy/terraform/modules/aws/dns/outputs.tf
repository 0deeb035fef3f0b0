output "name_servers" {
  description = "Names and addresses of this region's name servers: what the parent's NS records and glue say."
  value       = { for number, name in local.servers : name => aws_eip.server[number].public_ip }
}

output "target_group_arn" {
  description = "Target group that nodes join."
  value       = aws_lb_target_group.dns.arn
}

output "load_balancer" {
  description = "The load balancer and its target group as CloudWatch names them."
  value       = { load_balancer = aws_lb.dns.arn_suffix, target_group = aws_lb_target_group.dns.arn_suffix }
}
