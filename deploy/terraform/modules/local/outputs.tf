output "name_servers" {
  description = "Where the cluster answers DNS: host and port of the first node of each region."
  value       = [for address in ["127.0.0.11", "127.0.0.12", "127.0.0.13"] : "${address}:5300"]
  depends_on  = [terraform_data.shape]
}

output "admin" {
  description = "Where its admin API answers, for meridian --admin."
  value       = "127.0.0.11:9900"
  depends_on  = [terraform_data.shape]
}

output "token_file" {
  description = "File with the token of the admin API, for meridian --token-file."
  value       = "${local.home}/token"
}

output "ca_file" {
  description = "The authority of the demo's certificate, for curl --cacert."
  value       = "${local.home}/tls/ca.pem"
}
