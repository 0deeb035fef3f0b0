variable "ssh_keys" {
  description = "Names of operators' SSH keys, as Hetzner has them."
  type        = list(string)
}
